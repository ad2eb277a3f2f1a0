"""`semhier measure gallery`: one self-contained page with every card that was asked for."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from semhier_ros.cli import main
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.lab.baselines import Transmitted
from semhier_ros.lab.studies.gallery import NEAR, Card, Scene, nearest, page


class Checker(HTMLParser):
    """Collects tags and what would have to be loaded from elsewhere; insists that what opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:image/")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_of_a_street(tmp_path: Path) -> None:
    images, labels, out = tmp_path / "images", tmp_path / "labels", tmp_path / "out"
    images.mkdir()
    labels.mkdir()
    frame = next(frame.image for number, frame in enumerate(read_video(default_video())) if number == 150)
    cv2.imwrite(str(images / "street <1>.png"), np.ascontiguousarray(frame[..., ::-1]))
    (labels / "street <1>.txt").write_text("8 .5 .6 .2 .2\n")
    arguments = ["measure", "gallery", "--images", str(images), "--labels", str(labels), "--out", str(out)]
    assert main([*arguments, "--bytes", "60", "5000"]) == 0
    text = (out / "index.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert not checker.outside
    assert checker.seen.count("figure") == 1 + 2 * 3
    assert "street &lt;1&gt;.png" in text
    assert "1 objects labelled" in text
    assert 'name="viewport"' in text
    sizes = [int(size.replace(",", "")) for size in re.findall(r"<figcaption[^>]*>semhier, ([\d,]+) B", text)]
    assert sizes[0] <= 60 < sizes[1] <= 5000
    assert checker.seen.count("img") == 1 + 2 * 2 + 1, "no picture of ours at 60 bytes, one at 5,000"


def test_what_cannot_be_shown_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    arguments = ["measure", "gallery", "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "broken.png: no picture, or damaged" in capsys.readouterr().err
    for wrong in ("--bytes", "--limit"):
        with pytest.raises(SystemExit):
            main([*arguments, wrong, "0"])
    assert main(["measure", "gallery", "--images", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2


def test_the_nearest_file_fits_and_looks_best() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    files = [
        Transmitted(np.full_like(picture, shade), size, 0)
        for shade, size in ((90, 100), (99, 105), (60, 40), (100, 300))
    ]
    assert nearest(files, picture, 100).total_bytes == 105 <= NEAR * 100
    assert nearest(files, picture, 50).total_bytes == 40
    assert nearest(files, picture, 10).total_bytes == 40, "the smallest where none fits"
    assert nearest(files, picture, 1000).total_bytes == 300


def test_words_from_outside_are_escaped() -> None:
    class Tree:
        @staticmethod
        def names(level: int) -> tuple[str, ...]:
            return ("<b>",)

    class Made:
        name, model_hash, levels, taxonomy = "<road>", "0" * 16, 2, Tree

    card = Card("<said>", None, (Detection(0, (1, 2, 3, 4), (0, 0), ("<x>", "<y>"), (1, 1)),), None)
    text = page(Made, [Scene("<script>", (20, 10), card, [("<row>", [card])])])
    assert not re.search("<(script|said|row|road|y)>", text)
    assert "&lt;y&gt;" in text
