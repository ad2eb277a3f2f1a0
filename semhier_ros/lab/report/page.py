"""What every page shares: the base template, pictures and boxes in it, numbers and settings in words.

A page is one HTML file that loads nothing from anywhere. Every text is escaped; a placeholder without a value is an
error, not a gap.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from semhier_ros.codec.reading import Detection
from semhier_ros.footage.messages import image_file
from semhier_ros.footage.video import at_most
from semhier_ros.link.emulate.profile import LinkProfile

_HERE = Path(__file__).parent
WEAK_SCORE = 0.3
"""Detections whose coarse score is lower are drawn faintly."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One detection in percent of the picture. `labelled`: whether its name fits beside the others; `flip`: the name
    stands inside the box, whose top is at the picture's; `weak`: drawn faintly, for its score is low; `group`: its node
    of level 1, -1 where none is known."""

    left: float
    top: float
    width: float
    height: float
    name: str
    score: float
    labelled: bool
    flip: bool
    weak: bool
    group: int


def render_page(template: str, **values: Any) -> str:
    """The page of a template of this folder, as text."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(data_uri=data_uri, boxes=boxes, percent=percent, ms=milliseconds, as_json=_as_json)
    environment.globals["text_of"] = lambda name: Markup((_HERE / name).read_text(encoding="utf-8"))
    return environment.get_template(template).render(**values)


def _as_json(value: Any) -> Markup:
    """JSON that may stand in a script of the page."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def data_uri(picture: bytes | np.ndarray) -> str:
    """A WebP, JPEG, PNG or SVG file, or pixels (H,W,3 RGB), as a data URI. Raises ValueError for other bytes."""
    if isinstance(picture, np.ndarray):
        picture = webp(picture)
    begins = {b"RIFF": "webp", b"\xff\xd8": "jpeg", b"\x89PNG": "png", b"<?xml": "svg+xml"}
    kind = next((kind for magic, kind in begins.items() if picture.startswith(magic)), None)
    if kind is None:
        raise ValueError(
            f"picture: starts with {picture[:4].hex() or 'nothing'}, a WebP, JPEG, PNG or SVG file expected"
        )
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def webp(image: np.ndarray, width: int | None = None, quality: int = 70) -> bytes:
    """A WebP file of a picture (H,W,3 RGB), scaled down to `width` if it is wider."""
    return image_file(at_most(image, width), "webp", quality)


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
        name, group = item.names[-1], item.path[1] if len(item.path) > 1 else -1
        label = (x0, y0 if flip else y0 - line, x0 + (6.6 * len(name) + 10) / 2.5, y0 + line if flip else y0)
        free = x1 - x0 >= 5 and not any(_meet(label, other) for other in taken)
        if free:
            taken.append(label)
        left, top, wide, high = (round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0))
        result.append(
            Drawn(left, top, wide, high, name, item.scores[-1], free, flip, item.scores[0] < WEAK_SCORE, group)
        )
    return result


def _meet(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def milliseconds(value: float | None) -> str:
    """A delay for people: 63 ms, 1.24 s, or a dash."""
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.2f} s"


def percent(value: float | None) -> str:
    """A share for people: 98 %, 97.4 % near the ends, or a dash."""
    if value is None:
        return "–"
    text = f"{value * 100:.1f}" if 0.9 < value < 1 else f"{value * 100:.0f}"
    return f"{text.removesuffix('.0')} %"


def rate_words(bits: float) -> str:
    """Bits per second: 64 kbit/s."""
    for scale, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits >= scale:
            return f"{bits / scale:g} {unit}"
    return f"{bits:g} bit/s"


def link_words(link: LinkProfile) -> str:
    """A link as a report names it: 64 kbit/s, 50 ms, 5 % loss."""
    parts = [rate_words(link.rate_bps) if link.rate_bps else "no limit", f"{link.delay_s * 1000:g} ms"]
    parts.append(f"{link.loss * 100:g} % loss")
    if link.burst > 1:
        parts.append(f"in bursts of {link.burst:g}")
    if link.jitter_s:
        parts.append(f"{link.jitter_s * 1000:g} ms jitter")
    return ", ".join(parts)
