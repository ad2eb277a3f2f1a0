"""The study of thin links: what given costs are waited for, and which measurements are told apart."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest

from semhier_ros.camera.encoder_end import Opened
from semhier_ros.cli import main
from semhier_ros.codec.packet import Block
from semhier_ros.lab.footage.video import FootageError, default_video
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.ends import Imagined, differing
from semhier_ros.lab.studies.link import FREE, Bench, row_of
from semhier_ros.lab.studies.tables import link as table
from semhier_ros.paths import model_names


class Made:
    """A maker of two semantic and two picture blocks that takes `seconds` for each."""

    name = "made"
    semantic_blocks = 2

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def open(self, source, frame, stamp_ns, max_bytes):
        def blocks():
            for index in range(4):
                time.sleep(self.seconds)
                yield Block(0xBEEF, frame, index, b"x")

        return Opened((4, 4), blocks())


def laps(maker):
    """Seconds from opening to each block."""
    began = time.monotonic()
    return [time.monotonic() - began for _ in maker.open(0, 0, 0, None).blocks]


def test_what_was_made_before_is_handed_out_after_its_cost():
    told = laps(Imagined(Made(), Costs(semantic=0.2, picture=0.1)))
    assert told[0] >= 0.2
    assert told[2] >= 0.3


def test_what_making_takes_is_part_of_the_cost_and_not_added_to_it(monkeypatch):
    waited = []
    monkeypatch.setattr("semhier_ros.lab.replay.ends.time.sleep", waited.append)
    for _ in Imagined(Made(0.0), Costs(semantic=60.0, picture=30.0)).open(0, 0, 0, None).blocks:
        pass
    waits = [seconds for seconds in waited if seconds > 1.0]
    assert waits[0] < 60.0  # some of it had passed
    assert len([seconds for seconds in waits if seconds < 30.0]) == 2, "the picture's cost, on its first block and on"


def test_an_imagined_maker_is_otherwise_the_maker():
    assert Imagined(Made(), FREE).name == "made"
    assert Imagined(Made(), FREE).semantic_blocks == 2


def test_frames_that_repeat_are_encoded_once():
    class Clip:
        distinct = 3

        def __len__(self):
            return 7

    assert list(differing(Clip())) == [0, 1, 2]
    assert list(differing([1, 2])) == [0, 1]


def bench(tmp_path, costs, links=("64kbit,50ms,5%", "serial9600,before")):
    options = SimpleNamespace(
        video=tmp_path / "a.avi", link=links, seconds=None, codecs=["semhier", "jpeg"], json=tmp_path / "out.json",
        runs=1, costs=costs, model="road", device="cpu", key=False,
    )  # fmt: skip
    return Bench(options)


def test_measurements_with_other_costs_are_told_apart(tmp_path):
    first = bench(tmp_path, Costs())
    assert [(row.name, codecs) for row, codecs, _ in first.jobs()] == [
        ("64kbit,50ms,5%", ("semhier",)),
        ("64kbit,50ms,5%", ("jpeg",)),
        ("serial9600,before", ("semhier",)),
    ], "pictures have no radio to go over"
    known = []
    for row, (codec,), number in first.jobs():
        name, seconds, codec, costs = first.key(row, codec)
        known.append({"link": name, "seconds": seconds, "codec": codec, "costs": costs, "run": number})
    old = {name: value for name, value in known[0].items() if name != "costs"}
    (tmp_path / "out.parts").write_text("".join(json.dumps(part) + "\n" for part in [old, *known]), encoding="utf-8")
    assert bench(tmp_path, Costs()).jobs() == []
    left = [row.name for row, _, _ in bench(tmp_path, None).jobs()]
    assert left == ["64kbit,50ms,5%"] * 2, "a row without any costs is the same whatever is given"
    assert len(bench(tmp_path, Costs(semantic=0.1)).jobs()) == 2


def test_the_table_says_which_costs_were_used():
    late = {"p50": 1.0, "p95": 2.0, "max": 3.0}
    row = {"link": "64kbit", "codec": "semhier", "runs": 1, "coarse_share": 1.0, "coarse_ms": late}
    row |= {"wire_bytes_per_s": 9.0, "coarse_ap50": 1.0}
    rows = [{**row, "costs": "semantic 30 ms"}, {**row, "link": "serial9600,before", "costs": "none"}]
    given = table({"rows": rows, "costs_ms": {"semantic": 30.0}})[0].note
    assert "as long as was given: semantic 30 ms; nothing in serial9600,before." in given
    assert "what it takes on this machine." in table({"rows": rows[:1]})[0].note


def missing() -> str:
    if "road" not in model_names():
        return "models/road is not there"
    try:
        default_video()
    except FootageError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
def test_a_radio_with_given_costs_between_real_processes(tmp_path):
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    out = tmp_path / "out.json"
    command = ["measure", "link", "--link", "serial57600", "--seconds", "4", "--codecs", "semhier", "answer"]
    assert main([*command, "--runs", "1", "--costs", "semantic=80", "--json", str(out)]) == 0
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["costs"] == "given"
    assert told["costs_ms"]["semantic"] == 80.0
    assert row_of("serial57600", 4.0).frames_per_second == 5.0
    for row in told["rows"]:
        assert row["coarse_share"] >= 0.8
        assert row["encode_ms"]["p50"] >= 80.0
        assert row["coarse_ms"]["p50"] >= 80.0
        assert row["coarse_ap50"] == pytest.approx(1.0, abs=0.05)
