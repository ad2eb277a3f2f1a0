"""The study of thin links: what given costs are waited for, and which measurements are told apart."""

from __future__ import annotations

import json
import random
import time
from types import SimpleNamespace

import pytest
from needs import missing

from semhier_ros.camera.encoder_end import Opened
from semhier_ros.cli import main
from semhier_ros.codec.packet import Block
from semhier_ros.codec.stream_info import Calibration, StreamInfo
from semhier_ros.command import CommandError
from semhier_ros.lab.baselines.picture_files import PictureSetting
from semhier_ros.lab.processes import ChildError
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.ends import Imagined, differing
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import LINK_OF, check_transport, radio_of
from semhier_ros.lab.replay.traffic import paired
from semhier_ros.lab.studies.link import _KEY, FREE, Bench, delays_of, row_of
from semhier_ros.lab.studies.tables import link as table
from semhier_ros.lab.ways import AirWay
from semhier_ros.link.emulate.autopilot import STREAMS, both_ways, message_of, schedule
from semhier_ros.link.emulate.radio import MAVLINK_SHARE, Channel, parse_radio
from semhier_ros.link.radio.mavlink import mavlink_module
from semhier_ros.link.schedule.policy import default_policies


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


def bench(tmp_path, costs, links=("64kbit,50ms,5%", "serial9600,before"), **more):
    """A table of those links; its model is a folder with a hash, and its video a file, of which nothing is read."""
    for name, said in (("a", "1" * 16), ("b", "2" * 16)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model.json").write_text(json.dumps({"model_hash": said}), encoding="utf-8")
        (tmp_path / f"{name}.avi").write_text(name, encoding="utf-8")
    options = SimpleNamespace(
        video=tmp_path / "a.avi", link=links, seconds=None, codecs=["semhier", "jpeg"], json=tmp_path / "out.json",
        runs=1, costs=costs, model=str(tmp_path / "a"), device="cpu", key=False, transport=None,
    )  # fmt: skip
    vars(options).update(more)
    return Bench(options)


def parts_of(one):
    """What the runs of a table would leave behind."""
    return [dict(zip(_KEY, one.key(row, codec), strict=True)) | {"run": number} for row, codec, number in one.jobs()]


def test_measurements_with_other_costs_are_told_apart(tmp_path):
    first = bench(tmp_path, Costs())
    assert [(row.name, codec) for row, codec, _ in first.jobs()] == [
        ("64kbit,50ms,5%", "semhier"),
        ("64kbit,50ms,5%", "jpeg"),
        ("serial9600,before", "semhier"),
    ], "pictures have no radio to go over"
    known = parts_of(first)
    old = {name: value for name, value in known[0].items() if name != "costs"}
    (tmp_path / "out.parts").write_text("".join(json.dumps(part) + "\n" for part in [old, *known]), encoding="utf-8")
    assert bench(tmp_path, Costs()).jobs() == []
    left = [row.name for row, _, _ in bench(tmp_path, None).jobs()]
    assert left == ["64kbit,50ms,5%"] * 2, "a row without any costs is the same whatever is given"
    assert len(bench(tmp_path, Costs(semantic=0.1)).jobs()) == 2


def test_figures_of_another_model_or_video_are_not_taken(tmp_path):
    first = bench(tmp_path, Costs())
    parts = [part | {"coarse_share": 1.0} for part in parts_of(first)]
    (tmp_path / "out.parts").write_text("".join(json.dumps(part) + "\n" for part in parts), encoding="utf-8")
    assert [len(row) for row in (bench(tmp_path, Costs()).jobs(), bench(tmp_path, Costs()).result()["rows"])] == [0, 3]
    for other in ({"model": str(tmp_path / "b")}, {"model": f"{tmp_path / 'a'}+foot"}, {"video": tmp_path / "b.avi"}):
        again = bench(tmp_path, Costs(), **other)
        assert (len(again.jobs()), again.result()["rows"]) == (3, []), other
        assert again.result()["model_hash"] == ("2" if other.get("model", "").endswith("b") else "1") * 16
    keyed = [row.name for row, _, _ in bench(tmp_path, Costs(), key=True).jobs()]
    assert keyed == ["serial9600,before"], "other links have no keyed frames"
    with pytest.raises(CommandError, match=r"c\.avi: No such file"):
        bench(tmp_path, Costs(), video=tmp_path / "c.avi").jobs()


def test_each_video_has_its_clip_and_each_model_and_video_its_settings(tmp_path, monkeypatch):
    asked, searched = [], []

    def make(video, fps, seconds, out):
        asked.append(out.name)
        raise ChildError("enough")

    monkeypatch.setattr("semhier_ros.lab.studies.link.make_clip", make)
    stream = SimpleNamespace(how=PictureSetting("jpeg", 0.5, 25), setting="half")
    monkeypatch.setattr("semhier_ros.lab.studies.link.make_stream", lambda *_: searched.append(1) or stream)
    store = Store()
    for other in ({}, {"video": tmp_path / "b.avi"}, {"model": str(tmp_path / "b")}, {}):
        one = bench(tmp_path, Costs(), **other)
        one.reader = SimpleNamespace(store=store)
        with pytest.raises(ChildError):
            one.measure(one.rows[0], "jpeg", 0, lambda share: None)
        assert one._setting(one.rows[0], "jpeg", [])["words"] == "half"
    assert len(set(asked)) == 2
    assert asked[0] == asked[2] == asked[3] != asked[1]
    assert len(searched) == 3


def test_a_transport_brings_its_link_and_no_other_goes_with_it(capsys):
    for command in (["measure", "link", "--codecs", "semhier"], ["replay", "no.mcap"]):
        wrong = [*command, "--transport", "mavlink", "--link", "serial9600"]
        assert main(wrong) == 2
        assert "--transport mavlink: over serial9600 serial speaks; leave --link out for mavlink57600" in (
            capsys.readouterr().err
        )
    for transport, link in LINK_OF.items():
        check_transport(transport, link, radio_of(link))


def test_the_table_says_which_costs_were_used():
    late = {"p50": 1.0, "p95": 2.0, "max": 3.0}
    row = {"link": "64kbit", "codec": "semhier", "runs": 1, "coarse_share": 1.0, "coarse_ms": late}
    row |= {"wire_bytes_per_s": 9.0, "coarse_ap50": 1.0}
    rows = [{**row, "costs": "semantic 30 ms"}, {**row, "link": "serial9600,before", "costs": "none"}]
    given = table({"rows": rows, "costs_ms": {"semantic": 30.0}})[0].note
    assert "as long as was given: semantic 30 ms; nothing in serial9600,before." in given
    assert "what it takes on this machine." in table({"rows": rows[:1]})[0].note


def test_an_autopilots_traffic_is_as_large_as_was_asked_and_the_same_each_time():
    pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    flight = schedule(3000.0, 10.0)
    assert flight == schedule(3000.0, 10.0)
    common, chance = mavlink_module(), random.Random(3)
    sender = common.MAVLink(None, 1, 1)
    sizes = {name: len(message_of(common, name, chance).pack(sender)) for name in STREAMS}
    assert 2850 <= sum(sizes[name] for _, name in flight) / 10.0 <= 3000
    assert {name for _, name in flight} == set(STREAMS)


def test_an_autopilots_messages_are_at_most_30_ms_later_for_us():
    """On the line in virtual time, which no busy computer disturbs: descriptions in two frames, blocks that fill what
    our share allows, turns and words."""
    pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    radio, seconds = parse_radio("mavlink57600"), 25.0
    others = both_ways(radio.others, seconds)
    alone = Channel(radio)
    for at, end, message in others:
        alone.send(end, message, at, other=True)
    alone.arrivals(seconds + 60.0)
    way, chance, frames = AirWay(radio, others=others), random.Random(1), 0
    sender = way.send(default_policies(7, 4))
    way.receive(lambda *came: None)
    lens = Calibration(640, 360, (500.0, 500.0, 320.0, 180.0), "plumb_bob", (0.1, 0.2, 0.3, 0.4, 0.5))
    info = StreamInfo("front", "lens", 640, 360, "road", "beef" * 4, "cafe" * 4, 0, calibration=lens)
    while way.clock.now() < seconds + 5.0:
        if frames < 10 * seconds and way.clock.now() >= frames / 10:
            sender.set_info("front", info.to_bytes())
            sizes = (30, 25, 25, 25, 300, 400, 500)
            blocks = [Block(0xBEEF, frames, index, chance.randbytes(size)) for index, size in enumerate(sizes)]
            sender.offered("front", blocks[:4])
            sender.submit("front", frames, round(way.clock.now() * 1e9), blocks)
            frames += 1
        way.step(min(seconds + 5.0, frames / 10 if frames < 10 * seconds else seconds + 5.0))
    log = way.hop.air.log
    arrived = [[one.ended for one in log if one.other and one.end == 0] for log in (alone.log, log)]
    assert len(arrived[0]) == len(arrived[1]) > 50 * seconds
    later = [beside - before for before, beside in zip(*arrived, strict=True)]
    assert 0.010 < max(later) <= 0.030
    ours = sum(one.size for one in log if one.end == 0 and not one.other)
    assert 0.85 * MAVLINK_SHARE * seconds <= ours <= MAVLINK_SHARE * (seconds + 5.0) + 145


def test_messages_are_paired_across_losses_and_numbers_that_begin_anew():
    sent = [(number % 256, number * 1_000_000_000) for number in range(600)]
    came = [(seq, at + 500_000_000) for seq, at in sent if not 100 <= at // 1_000_000_000 < 320]
    delays = paired(sent, came)
    assert set(delays) == set(range(600)) - set(range(100, 320))
    assert set(delays.values()) == {0.5}
    assert paired(sent[:3], [(7, 1)]) == {}


def test_by_how_much_others_are_later_is_told_message_by_message():
    told = delays_of({0: 0.050, 1: 0.020, 3: 0.1}, {0: 0.010, 1: 0.015, 2: 0.1}, (4, 900), 3.0)
    assert told["later_ms"] == {"p50": 22.5, "p95": 38.2, "max": 40.0}
    assert told["later_by_30_ms_share"] == 0.5
    assert (told["bytes_per_s"], told["arrived_share"]) == (300, 0.75)


@pytest.mark.skipif(bool(missing(ros=False)), reason=missing(ros=False) or "all is there")
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


@pytest.mark.skipif(bool(missing(ros=False)), reason=missing(ros=False) or "all is there")
def test_an_acoustic_radio_carries_most_of_five_frames_a_second_with_memory_and_without(tmp_path):
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    assert (row_of("acoustic,5fps,memory", None).memory, row_of("acoustic,5fps", None).memory) == (True, False)
    out, links = tmp_path / "out.json", ("acoustic,5fps", "acoustic,5fps,memory")
    command = ["measure", "link", "--link", *links, "--seconds", "15", "--codecs", "semhier", "--runs", "1"]
    assert main([*command, "--costs", "given", "--json", str(out)]) == 0
    plain, memory = json.loads(out.read_text(encoding="utf-8"))["rows"]
    for row in (plain, memory):
        assert row["coarse_share"] > 0.6
        assert row["coarse_share_of_sent"] > 0.8
        assert row["radio"]["largest_frame"] <= 32


@pytest.mark.skipif(bool(missing(ros=False)), reason=missing(ros=False) or "all is there")
def test_a_line_that_an_autopilot_shares_carries_both(tmp_path):
    pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
    out = tmp_path / "out.json"
    command = ["measure", "link", "--link", "mavlink57600", "--seconds", "4", "--codecs", "semhier", "--runs", "1"]
    assert main([*command, "--costs", "given", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert row["coarse_share"] >= 0.8
    assert row["others"]["arrived_share"] == 1.0
    assert 2500 <= row["others"]["bytes_per_s"] <= 3100
    assert row["radio"]["bytes_around_a_coarse_block"] == 23
