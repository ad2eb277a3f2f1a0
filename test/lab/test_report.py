"""The report: one file, nothing from outside, every word escaped, every placeholder filled, right in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the report needs Jinja2: pip install -r requirements/report.txt")
pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install -r requirements/report.txt")

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.report.content import ReportContent, block_kinds
from semhier_ros.lab.report.page import bars, boxes, data_uri, render
from semhier_ros.lab.report.verdict import five_lines, milliseconds, percent, summary, verdict
from semhier_ros.lab.report.words import IMAGE
from semhier_ros.lab.scoring.delivery import budget_use

Draw = Callable[..., ReportContent]
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


def test_the_page_is_whole_and_loads_nothing(drawn: Draw) -> None:
    text = render(drawn())
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", text), re.IGNORECASE)
    assert "url(" not in re.sub(r"url\(#", "", text)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "{{" not in text
    assert "{%" not in text
    assert "None" not in " ".join(page.words)
    assert "nan" not in " ".join(page.words).lower().split()
    assert page.tags.count("article") == 6
    assert page.tags.count("svg") == 4
    assert "default-src 'none'" in text
    assert len(text) < 5_000_000


def test_names_and_footage_are_escaped(drawn: Draw) -> None:
    evil = '<script>alert("x")</script>&amp;\''
    content = drawn(frames=40, footage=evil, titles=(evil, "group", "type"))
    first = content.strip[0]
    step = first.steps[0]
    named = replace(step.detections[0], names=(evil,))
    content.strip = [replace(first, steps=(replace(step, detections=(named,)), *first.steps[1:])), *content.strip[1:]]
    text = render(content)
    assert "<script>alert" not in text
    assert Page(text).tags.count("script") == 1
    assert evil in " ".join(Page(text).words)


def test_a_run_without_jpeg_and_a_run_in_which_nothing_came(drawn: Draw) -> None:
    assert "JPEG was not sent" in render(drawn(jpeg=False))
    content = drawn(frames=40)
    for row in content.timeline:
        row.arrivals.clear()
    empty = replace(content.levels[0], arrived=0, delays=replace(content.levels[0].delays, p50=None, p95=None))
    content.levels = (empty,) * 3
    content.pictures = empty
    content.strip, content.moments = [], []
    text = render(content)
    assert "0 of 40 camera frames" in text
    assert "–" in text


def test_words_and_figures_agree(drawn: Draw) -> None:
    content = drawn()
    figures = summary(content)
    sentences = verdict(content)
    assert len(sentences) == 3
    coarse = content.levels[0]
    assert f"{coarse.arrived} of {coarse.sent} camera frames" in sentences[0]
    assert figures["codecs"]["semhier"]["delivered"] == pytest.approx(coarse.share, abs=1e-4)
    assert figures["codecs"]["semhier"]["budget_kept"] is True
    assert set(figures["codecs"]["semhier"]["streaming_ap50"]) == {"L0", "L1", "L2"}
    assert figures["codecs"]["jpeg"]["delivered"] == pytest.approx(content.jpeg.pictures.share, abs=1e-4)
    assert json.loads(json.dumps(figures)) == figures
    lines = five_lines(content, "out/demo/report.html")
    assert len(lines) == 5
    assert not any("\n" in line for line in lines)
    content.wire = budget_use([(0.0, 900), (0.0, 900)], 8000.0)
    assert "NOT kept" in verdict(content)[1]


def test_whole_images_are_shown_as_paths_with_growing_bars(drawn: Draw) -> None:
    content = drawn(frames=40)
    content.words = IMAGE
    content.node_names = (("vehicle", "other <thing>"), ("car", "heavy"), ("hatchback", "bus"))
    first, *more = content.strip
    step = first.steps[0]
    unsure = replace(step.detections[0], others=(((1, 0.07),),))
    content.strip = [replace(first, steps=(replace(step, detections=(unsure,)), *first.steps[1:])), *more]
    text = render(content)
    page = Page(text)
    cards = sum(len(frame.steps) for frame in content.strip) + 3 * len(content.moments)
    assert text.count('<ol class="path">') == cards
    assert 'class="box' not in text
    assert "or other &lt;thing&gt; 7 %" in text
    words = " ".join(page.words)
    assert "street" not in words.replace(content.footage, "")
    rows = bars(step.detections[:1], content)
    assert [(row.name, row.score) for row in rows] == [("vehicle", 0.93), ("", 0.0), ("", 0.0)]
    assert [bar.name for bar in bars((), content)] == ["", "", ""]
    assert set(summary(content)["codecs"]["semhier"]["streaming_accuracy"]) == {"L0", "L1", "L2"}
    assert "right name" in five_lines(content, "report.html")[3]


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
    with pytest.raises(ValueError, match="a WebP, JPEG or PNG file expected"):
        data_uri(b"<svg>")


def test_block_kinds_follow_the_codec() -> None:
    kinds = block_kinds(("level_0", "level_1", "detail", "picture_0"), 3, ("vehicle", "type"))
    assert [(kind.title, kind.level, kind.picture) for kind in kinds] == [
        ("vehicle", 0, False),
        ("type", 1, False),
        ("detail", None, False),
        ("picture 1", None, True),
    ]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_real_browser_shows_it(drawn: Draw, tmp_path: Path, width: int) -> None:
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    page = tmp_path / "report.html"
    probe = (
        "<script>addEventListener('load', () => document.title = JSON.stringify({"
        "wide: document.documentElement.scrollWidth, view: innerWidth, stage: !document.getElementById('stage').hidden,"
        "broken: [...document.images].filter((image) => image.complete && !image.naturalWidth).length,"
        "screens: document.querySelectorAll('.screens .shot').length, marks: document.querySelectorAll('.track "
        "button').length}))</script>"
    )
    page.write_text(render(drawn()).replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion"),
            *(
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--window-size={max(width, 500)},900",
                "--virtual-time-budget=3000",
            ),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr[-500:]
    seen = json.loads(title.group(1).replace("&quot;", '"'))
    assert seen["stage"]
    assert seen["broken"] == 0
    assert seen["screens"] == 2
    assert seen["marks"] == 6
    assert seen["wide"] <= seen["view"] + 1, "the page scrolls sideways"
