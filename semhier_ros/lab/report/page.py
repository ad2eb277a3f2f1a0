"""Lays a report out as one HTML file that loads nothing from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.report import figures
from semhier_ros.lab.report.content import (
    JPEG_COLOUR,
    LOST_COLOUR,
    Moment,
    ReportContent,
    Step,
    View,
)
from semhier_ros.lab.report.verdict import milliseconds, percent, verdict

_HERE = Path(__file__).parent
WEAK_SCORE = 0.3
"""Detections whose coarse score is lower are drawn faintly."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One large number with its words."""

    value: str
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One detection in percent of the picture. `labelled`: whether its name fits beside the others; `flip`: the name
    stands inside the box, whose top is at the picture's; `weak`: drawn faintly, for its score is low."""

    left: float
    top: float
    width: float
    height: float
    name: str
    score: float
    labelled: bool
    flip: bool
    weak: bool


def data_uri(picture: bytes) -> str:
    """A WebP, JPEG or PNG file as a data URI. Raises ValueError for other bytes."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        kind = "webp"
    elif picture[:2] == b"\xff\xd8":
        kind = "jpeg"
    elif picture[:4] == b"\x89PNG":
        kind = "png"
    else:
        raise ValueError(f"picture: starts with {picture[:4].hex() or 'nothing'}, a WebP, JPEG or PNG file expected")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def boxes(detections: Sequence[Detection], width: int, height: int) -> list[Drawn]:
    """The detections as they are drawn: surest first, names left out where they would cover another one.

    A name's size is estimated for a card of 250 pixels' width.
    """
    taken: list[tuple[float, float, float, float]] = []
    line = 16 / (250 * height / width) * 100
    result = []
    for item in sorted(detections, key=lambda found: -found.scores[-1]):
        x0, x1 = (min(max(value / width, 0.0), 1.0) * 100 for value in (item.box[0], item.box[2]))
        y0, y1 = (min(max(value / height, 0.0), 1.0) * 100 for value in (item.box[1], item.box[3]))
        flip = y0 < line
        name = item.names[-1]
        label = (x0, y0 if flip else y0 - line, x0 + (6.6 * len(name) + 10) / 2.5, y0 + line if flip else y0)
        free = x1 - x0 >= 5 and not any(_meet(label, other) for other in taken)
        if free:
            taken.append(label)
        left, top, wide, high = (round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0))
        result.append(Drawn(left, top, wide, high, name, item.scores[-1], free, flip, item.scores[0] < WEAK_SCORE))
    return result


@dataclass(frozen=True, slots=True)
class Bar:
    """A level of a label path: what people call the level, the node's name (empty while it is not known), its score,
    its colour, and what else it may be, in words."""

    title: str
    name: str
    score: float
    colour: str
    others: str = ""


def bars(detections: Sequence[Detection], content: ReportContent) -> list[Bar]:
    """A whole image's reading as one bar a level; names are missing below the level that is known."""
    found = detections[0] if detections else None
    result = []
    for level, kind in enumerate(content.kinds[: len(content.level_names)]):
        if found is None or level >= len(found.path):
            result.append(Bar(kind.title, "", 0.0, kind.colour))
            continue
        deepest = level == len(found.path) - 1
        others = [f"{content.node_names[level][node]} {percent(score)}" for node, score in found.others_at(level)]
        said = "or " + ", ".join(others[:2]) if others and deepest and content.node_names else ""
        result.append(Bar(kind.title, found.names[level], found.scores[level], kind.colour, said))
    return result


def _meet(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def render(content: ReportContent) -> str:
    """The whole page. Every text is escaped; a placeholder without a value is an error, not a gap."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(data_uri=data_uri, boxes=boxes, percent=percent, ms=milliseconds)
    plots = {"timeline": figures.timeline, "waiting": figures.waiting, "bytes": figures.bytes_per_block}
    if content.jpeg:
        plots["agreement"] = figures.agreement
    deepest = [kind.colour for kind in content.kinds if kind.level is not None][-1]

    def boxes_colour(step: Step) -> str:
        return step.block.colour if step.block.level is not None else deepest

    def path(detections: Sequence[Detection]) -> list[Bar]:
        return bars(detections, content)

    def views(moment: Moment) -> list[tuple[str, View, str]]:
        found = [("semhier", moment.ours, deepest)]
        return found + ([("JPEG", moment.jpeg, JPEG_COLOUR)] if moment.jpeg else [])

    return environment.get_template("page.html.j2").render(
        content=content,
        verdict=list(zip(("What arrived", "What it cost", "Beside it"), verdict(content), strict=True)),
        tiles=_tiles(content),
        waits=_waits(content),
        wire_rows=_wire_rows(content),
        compared=_compared(content),
        plots={name: Markup(draw(content)) for name, draw in plots.items()},
        boxes_colour=boxes_colour,
        views=views,
        path=path,
        lost_colour=LOST_COLOUR,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


def _tiles(content: ReportContent) -> list[Tile]:
    coarse, fine = content.levels[0], content.levels[-1]
    first, last = content.kinds[0].colour, content.kinds[len(content.levels) - 1].colour
    picture = next((kind.colour for kind in content.kinds if kind.picture), JPEG_COLOUR)
    return [
        Tile(percent(coarse.share), f"of {coarse.sent} frames had a coarse reading", first),
        Tile(milliseconds(coarse.delays.p50), "from the camera to the coarse reading, median", first),
        Tile(milliseconds(fine.delays.p50), "to the finest names, median", last),
        Tile(f"{content.semantic_bytes:.0f} B", "a frame for all that is read", last),
        Tile(str(content.pictures.arrived), "frames with a picture besides", picture),
    ]


def _waits(content: ReportContent) -> Sequence[tuple[str, str, object]]:
    rows: list[tuple[str, str, object]] = []
    for kind, result in zip(content.kinds, content.levels, strict=False):
        rows.append((f"reading: {kind.title}", kind.colour, result))
    picture = next((kind.colour for kind in content.kinds if kind.picture), None)
    if picture:
        rows.append(("first picture", picture, content.pictures))
    if content.jpeg:
        rows.append(("JPEG picture", JPEG_COLOUR, content.jpeg.pictures))
    return rows


def _wire_rows(content: ReportContent) -> list[tuple[str, str]]:
    use = content.wire
    kept = "kept" if use.kept else "NOT kept"
    limit = f"{use.excess:.0f} bytes, at most {use.largest + use.apart}"
    rows = [
        ("budget", f"{use.rate:.0f} bytes/s"),
        ("used, mean", f"{use.mean:.0f} bytes/s"),
        ("used, busiest second", f"{use.busiest_second} bytes"),
        ("most above the budget's share in any window", f"{kept}: {limit}"),
    ]
    return rows + [(name, str(value)) for name, value in content.datagrams.items()]


def _compared(content: ReportContent) -> list[tuple[str, str, str, str]]:
    """Rows of (what, semhier, JPEG, no link at all)."""
    jpeg = content.jpeg
    if jpeg is None:
        return []
    coarse = content.levels[0]

    def answer(delay: float | None) -> str:
        return milliseconds(None if delay is None else delay + jpeg.detector_ms)

    rows = [
        (
            "camera frames answered",
            f"{coarse.arrived} of {coarse.sent}",
            f"{jpeg.pictures.arrived} of {coarse.sent}",
            "",
        ),
        ("first answer, median", milliseconds(coarse.delays.p50), answer(jpeg.pictures.delays.p50), ""),
        ("first answer, 95 %", milliseconds(coarse.delays.p95), answer(jpeg.pictures.delays.p95), ""),
        (
            "first picture, median",
            milliseconds(content.pictures.delays.p50),
            milliseconds(jpeg.pictures.delays.p50),
            "",
        ),
        ("bytes of a frame", f"{content.frame_bytes:.0f}", f"{jpeg.mean_bytes:.0f}", ""),
        ("wire bytes a second", f"{content.wire.mean:.0f}", f"{jpeg.wire.mean:.0f}", ""),
    ]
    for place, name in enumerate(content.level_names):
        found = (content.precision[place], jpeg.precision[place], content.ceiling[place])
        rows.append((f"{content.words.short}: {name}", percent(found[0]), percent(found[1]), percent(found[2])))
    return rows
