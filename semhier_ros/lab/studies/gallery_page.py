"""The gallery's page: one HTML file, boxes as SVG over pictures, in one column on a phone."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.baselines import Picture

COLOURS = ("#2dd4bf", "#fbbf24", "#60a5fa", "#f472b6", "#a3e635", "#c084fc", "#fb923c", "#e2e8f0")
STYLE = """
:root { color-scheme: light dark; --ink: #1c1917; --faint: #57534e; --paper: #fafaf9; --card: #fff; --over: #b91c1c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f5f5f4; --faint: #a8a29e; --paper: #1c1917; --card: #292524; --over: #fca5a5 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.45 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; overflow-wrap: anywhere }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; color: var(--faint) }
p { max-width: 60rem }
.row { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0; background: var(--card); border-radius: .5rem; overflow: hidden; box-shadow: 0 1px 3px #0003 }
figcaption { padding: .4rem .6rem; font-size: .9rem } .over { color: var(--over) }
svg { display: block; width: 100%; height: auto; background: #44403c }
.first { max-width: 40rem }
text { font: 600 1px system-ui, sans-serif }
"""


@dataclass(frozen=True)
class Card:
    """One way to see a scene. picture: None where none came. size: its bytes; over: more than the budget."""

    said: str
    picture: Picture | None
    detections: Sequence[Detection]
    size: int | None
    over: bool = False


@dataclass(frozen=True)
class Scene:
    """size: width and height in pixels. rows: heading and cards of each budget."""

    name: str
    size: tuple[int, int]
    original: Card
    rows: Sequence[tuple[str, Sequence[Card]]]


def page(codec: Any, scenes: Sequence[Scene]) -> str:
    """The page as HTML text."""
    groups = codec.taxonomy.names(1) if codec.levels > 1 else ()
    legend = ", ".join(
        f'<b style="color:{COLOURS[number % len(COLOURS)]}">&#9632;</b> {escape(name)}'
        for number, name in enumerate(groups)
    )
    body = "".join(_scene(scene) for scene in scenes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>semhier {escape(codec.name)}: scenes by bytes</title><style>{STYLE}</style></head><body>"
        f"<h1>What a base sees of a frame, by bytes</h1><p>Model {escape(codec.name)} ({codec.model_hash}). Ours shows "
        "what is known after so many bytes; grey ground: no picture came yet. JPEG and WebP show the file nearest in "
        f"size, read by the same detector.</p><p>{legend}</p>{body}</body></html>\n"
    )


def _scene(scene: Scene) -> str:
    rows = "".join(
        f'<h3>{escape(heading)}</h3><div class="row">{"".join(_card(card, scene.size) for card in cards)}</div>'
        for heading, cards in scene.rows
    )
    first = f'<div class="first">{_card(scene.original, scene.size)}</div>'
    return f"<section><h2>{escape(scene.name)}</h2>{first}{rows}</section>"


def _card(card: Card, size: tuple[int, int]) -> str:
    width, height = size
    inside = "" if card.picture is None else _image(card.picture, width, height)
    inside += "".join(_box(item, width, height) for item in card.detections)
    mark = ' class="over"' if card.over else ""
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(card.said, quote=True)}">'
        f"{inside}</svg><figcaption{mark}>{escape(card.said)}; {len(card.detections)} objects</figcaption></figure>"
    )


def _image(picture: Picture, width: int, height: int) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=70)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<image width="{width}" height="{height}" href="data:image/webp;base64,{data}"/>'


def _box(item: Detection, width: int, height: int) -> str:
    x0, y0, x1, y1 = item.box
    colour = COLOURS[item.path[1] % len(COLOURS)] if len(item.path) > 1 else "#f5f5f4"
    line, letter = max(width, height) / 320, max(width, height) / 36
    at_end = x0 > 0.75 * width
    place = f'x="{min(x1, width) if at_end else x0:.1f}" y="{max(letter, y0 - line):.1f}"'
    anchor = ' text-anchor="end"' if at_end else ""
    return (
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="{line:.2f}"/><text {place}{anchor} style="font-size:{letter:.1f}px" '
        f'fill="{colour}" stroke="#000a" stroke-width="{letter / 5:.2f}" paint-order="stroke">'
        f"{escape(item.names[-1])}</text>"
    )
