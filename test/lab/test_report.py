"""The report: one file, nothing from outside, every word escaped, every placeholder filled, right in a real browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs Jinja2: pip install -r requirements/report.txt")
pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install -r requirements/report.txt")

from replay_footage import FRAMES, write_street

from semhier_ros import Codec
from semhier_ros.codec.reading import Detection
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.task import Task
from semhier_ros.lab.replay.work import Result, replay
from semhier_ros.lab.report.page import boxes, data_uri, milliseconds, percent
from semhier_ros.lab.report.replay_page import bars, kinds_of, pictures_of, render, strip

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """Collects ids, addresses and tags, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href") and value:
                self.addresses.append(value)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"closes nothing: {tag}"
        assert self._open.pop() == tag, f"closed out of order: {tag}"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.fixture(scope="module")
def rendered(result: Result) -> str:
    """The replay's page."""
    return render(result)


@pytest.fixture
def own(result: Result) -> Result:
    """The replay, of which a test may change runs and summary."""
    summary = copy.deepcopy(result.summary)
    return replace(result, runs={name: copy.copy(run) for name, run in result.runs.items()}, summary=summary)


def test_the_page_is_whole_and_loads_nothing(rendered: str) -> None:
    text, page = rendered, Page(rendered)
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", text), re.IGNORECASE)
    assert "url(" not in re.sub(r"url\(#", "", text)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "{{" not in text
    assert "{%" not in text
    assert "None" not in " ".join(page.words)
    assert "nan" not in " ".join(page.words).lower().split()
    assert sum(address.startswith("data:image/svg+xml") for address in page.addresses) == 4
    assert "default-src 'none'" in text
    assert len(text) < 5_000_000
    words = " ".join(page.words)
    for name in ("semhier", "answer", "jpeg", "budget", "kept", "The settings of jpeg that reached the final"):
        assert name in words, name


def test_a_frame_refines_block_by_block(result: Result, rendered: str) -> None:
    """What plays on the page: coarse boxes first, then finer names, then pictures, in the order of arrival."""
    frames = strip(result, kinds_of(result))
    assert frames
    page = Page(rendered)
    assert page.tags.count("article") >= len(frames) + 1
    for frame in frames:
        steps = frame["steps"]
        depths = [max((len(item.path) for item in step.detections), default=0) for step in steps]
        assert depths == sorted(depths)
        assert all(len(item.path) == 1 for item in steps[0].detections)
        assert [step.total_bytes for step in steps] == sorted(step.total_bytes for step in steps)
        assert [step.ms for step in steps] == sorted(step.ms for step in steps)
        assert len(frame["missing"]) + len(steps) == len(result.reader.block_names)


def test_cameras_of_unequal_length_have_one_page(place: Path) -> None:
    """A frame's number in one camera is none of another's."""
    for name, count in (("long", 30), ("short", 10)):
        write_street(place / name, [number * 100_000_000 for number in range(count)], camera=name)
    bags, link = (place / "long", place / "short"), "256kbit,20ms"
    task = Task(bags, link, ("semhier",), "road", costs=Costs(), forecast=False, cache=place / "c" / "replay.sqlite")
    both = replay(task)
    assert [len(camera) for camera in both.cameras] == [30, 10]
    assert len(strip(both, kinds_of(both))) == 3
    assert "short" in render(both)


def test_names_and_footage_are_escaped(own: Result) -> None:
    evil = '<script>alert("x")</script>&amp;\''
    own.summary["bags"] = [evil]
    run = own.runs["semhier"]
    run.answers = [
        item._replace(detections=tuple(replace(one, names=(evil,) * len(one.path)) for one in item.detections))
        for item in run.answers
    ]
    text = render(own)
    assert "<script>alert" not in text
    assert Page(text).tags.count("script") == Page(render(own)).tags.count("script") == 6
    assert evil in " ".join(Page(text).words)


def test_a_run_beside_nothing_and_a_run_in_which_nothing_came(own: Result) -> None:
    own.runs = {"semhier": own.runs["semhier"]}
    own.streams = {"semhier": own.streams["semhier"]}
    own.summary["codecs"] = {"semhier": own.summary["codecs"]["semhier"]}
    assert "No other codec that sends more" in render(own)
    own.runs["semhier"].answers, own.runs["semhier"].blocks = [], []
    one = own.summary["codecs"]["semhier"]
    one["delivered"], one["coarse_ms"], one["fine_ms"] = 0.0, *[{"p50": None, "p95": None, "p99": None}] * 2
    text = render(own)
    assert "0 % had a coarse reading" in text
    assert "–" in text
    assert 'id="stage"' not in text


def test_words_and_figures_agree(own: Result) -> None:
    ours = own.summary["codecs"]["semhier"]
    words = " ".join(Page(render(own)).words)
    assert f"Of {FRAMES} frames {percent(ours['delivered'])} had a coarse reading" in words
    assert "The budget was kept" in words
    assert "; the bare answer, which carries no picture, stands at" in words
    assert json.loads(json.dumps(own.summary)) == own.summary
    ours["budget_use"]["kept"] = False
    assert "The budget was NOT kept" in " ".join(Page(render(own)).words)


def test_whole_images_are_shown_as_bars_that_grow(result: Result) -> None:
    kinds = kinds_of(result)
    names = result.reader.codec.taxonomy.names(0)
    known = Detection(0, (0, 0, 9, 9), (0,), (names[0],), (0.93,), (((0, 0.07),),))
    rows = bars(result, kinds, [known])
    assert [(row["name"], row["score"]) for row in rows] == [(names[0], 0.93), ("", 0.0), ("", 0.0)]
    assert rows[0]["others"] == f"or {names[0]} 7 %"
    assert [row["name"] for row in bars(result, kinds, ())] == ["", "", ""]


def test_numbers_for_people() -> None:
    assert [milliseconds(value) for value in (None, 0.4, 62.6, 1234.0)] == ["–", "0 ms", "63 ms", "1.23 s"]
    assert [percent(value) for value in (None, 0.5, 0.974, 0.99, 1.0)] == ["–", "50 %", "97.4 %", "99 %", "100 %"]


def test_boxes_stay_in_the_picture_and_names_do_not_cover_each_other() -> None:
    twins = [
        Detection(place, (x, 20.0, x + 60.0, 80.0), (0,), ("hatchback",), (score,))
        for place, (x, score) in enumerate(((-30.0, 0.9), (10.0, 0.8), (190.0, 0.2)))
    ]
    drawn_boxes = boxes(twins, 240, 100)
    assert [item.labelled for item in drawn_boxes] == [True, False, True]
    assert [item.weak for item in drawn_boxes] == [False, False, True]
    assert all(0 <= item.left <= item.left + item.width <= 100.01 for item in drawn_boxes)


def test_pictures_are_known_by_their_first_bytes() -> None:
    assert data_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="a WebP, JPEG, PNG or SVG file expected"):
        data_uri(b"<svg>")


def test_block_kinds_follow_the_codec(result: Result) -> None:
    assert [(kind.title, kind.level, kind.picture) for kind in kinds_of(result)] == [
        ("any vehicle", 0, False),
        ("group", 1, False),
        ("type", 2, False),
        ("detail", None, False),
        ("picture 1", None, True),
        ("picture 2", None, True),
        ("picture 3", None, True),
    ]


def chromium() -> str:
    """A browser, or a skip that says what is missing."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium on this machine (apt-get install chromium)")


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_ten_minutes_whole(rendered: str, tmp_path: Path, width: int) -> None:
    table = json.loads(re.search(r'id="data">(.*?)</script>', rendered, re.DOTALL).group(1))  # type: ignore[union-attr]
    table["rows"] = (table["rows"] * (15_000 // FRAMES + 1))[:15_000]
    text = re.sub(
        r'(id="data">).*?(</script>)',
        lambda found: found.group(1) + json.dumps(table, separators=(",", ":")) + found.group(2),
        rendered,
        flags=re.DOTALL,
    )
    assert len(text) < 15_000_000
    probe = (
        "<script>addEventListener('load', () => document.title = JSON.stringify({"
        "wide: document.documentElement.scrollWidth, view: innerWidth, ms: Math.round(performance.now()),"
        "where: document.getElementById('where').textContent, stage: !document.getElementById('stage').hidden,"
        "broken: [...document.images].filter((image) => image.complete && !image.naturalWidth).length,"
        "screens: document.querySelectorAll('.screens .shot').length,"
        "drawn: document.getElementById('canvas').height, cards: document.querySelectorAll('.card').length,"
        "first: document.querySelector('.verdict').getBoundingClientRect().bottom}))</script>"
    )
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--force-prefers-reduced-motion", f"--window-size={width},900", "--virtual-time-budget=3000"),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr[-500:]
    seen: dict[str, Any] = json.loads(title.group(1).replace("&quot;", '"'))
    assert seen["where"] == "frames 1 to 70 of 15000"
    assert seen["drawn"] > 400
    assert seen["cards"] >= 3
    assert seen["stage"]
    assert seen["screens"] == 2
    assert seen["broken"] == 0
    assert seen["wide"] <= seen["view"] + 1, "the page scrolls sideways"
    assert seen["first"] < (900 if width > 600 else 1400), "the verdict is on the first screen"


def test_a_model_without_pictures_has_a_report_all_the_same() -> None:
    codec = Codec.load("coco80", "cpu", threads=1)
    detected = codec.detected((64, 48), np.array([[4, 4, 40, 40]]), ["dog"], [0.9])
    reader = SimpleNamespace(
        codec=codec,
        semantic_blocks=codec.semantic_blocks,
        blocks=lambda camera, number, whole: codec.encode(None, detected=detected),
    )
    result: Any = SimpleNamespace(reader=reader)
    blocks, pictures = pictures_of(result, SimpleNamespace(size=(64, 48)), 0, 4)
    assert len(blocks) == 4
    assert pictures == [None] * 4
