"""The report's plots as SVG text (matplotlib, without a display)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from semhier_ros.lab.report.content import JPEG_COLOUR, LOST_COLOUR, ReportContent

INK, FAINT, GRID = "#1c1917", "#57534e", "#e7e5e4"
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": "#a8a29e",
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def svg_plot(name: str, size: tuple[float, float], draw: Callable[[Axes], None], label: str) -> str:
    """One plot as an inline <svg> that scales with its column. `label` is what a screen reader says."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'font: ([\d.]+px) [^;"]*', r"font-size: \1; font-family: inherit", text)
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    text = _unique_ids(text, name)
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(label)}"', 1)


def _unique_ids(text: str, name: str) -> str:
    """Several plots share one page: every id and reference gets the plot's name."""
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def timeline(content: ReportContent) -> str:
    """Every frame a row, every block a mark at the moment it arrived; frames without any are red.

    Finer blocks have smaller marks, so that blocks which came in one datagram show as rings.
    """
    rows = content.timeline
    latest = max((ms for row in rows for ms in row.arrivals.values()), default=500.0)
    limit = max(300.0, min(1500.0, latest * 1.04))

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            if row.arrivals:
                axes.hlines(place, 0, min(limit, max(row.arrivals.values())), color=GRID, linewidth=1.2, zorder=1)
            else:
                axes.hlines(place, 0, limit, color=LOST_COLOUR, linewidth=1.2, linestyles=(0, (1, 2)), zorder=1)
                axes.plot([limit * 0.012], [place], "x", color=LOST_COLOUR, markersize=5, markeredgewidth=1.6)
        for order, kind in enumerate(content.kinds):
            points = [(row.arrivals[kind.name], place) for place, row in enumerate(rows) if kind.name in row.arrivals]
            if points:
                size = 4.2 if kind.picture else max(2.0, 7.6 - 2.0 * order)
                shape = "s" if kind.picture else "o"
                axes.plot(*zip(*points, strict=True), shape, color=kind.colour, markersize=size, markeredgewidth=0)
        axes.set_xlim(0, limit)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("milliseconds since the camera took the frame")
        axes.set_ylabel("frame")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.grid(True, color=GRID, linewidth=0.7)

    height = min(8.0, 1.1 + 0.115 * max(len(rows), 12))
    return svg_plot("timeline", (6.2, height), draw, "Arrival of every block of every frame")


def waiting(content: ReportContent) -> str:
    """Share of the camera's frames that are known after so many ms, one curve per level, picture and JPEG."""
    curves: list[tuple[str, str, Sequence[float], int, str]] = []
    sent = content.frames_sent
    for kind in content.kinds:
        if kind.level is not None:
            curves.append((kind.title, kind.colour, _arrivals(content, kind.name), sent, "-"))
    if (first := next((kind for kind in content.kinds if kind.picture), None)) is not None:
        curves.append(("first picture", first.colour, _arrivals(content, first.name), sent, "-"))
    jpeg = content.jpeg
    if jpeg is not None:
        curves.append(("JPEG picture", JPEG_COLOUR, jpeg.delays_ms, sent, "--"))
    latest = max((value for _, _, values, _, _ in curves for value in values), default=500.0)
    limit = max(300.0, min(2000.0, latest * 1.02))

    def draw(axes: Axes) -> None:
        for order, (title, colour, values, total, style) in enumerate(curves):
            ordered = sorted(values)
            xs = [0.0, *ordered, limit]
            ys = [0.0, *[100 * (place + 1) / total for place in range(len(ordered))]]
            ys.append(ys[-1])
            axes.step(
                xs, ys, where="post", color=colour, linewidth=max(1.8, 5.0 - 1.6 * order), linestyle=style, label=title
            )
        axes.set_xlim(0, limit)
        axes.set_ylim(0, 102)
        axes.set_xlabel("milliseconds since the camera took the frame")
        axes.set_ylabel("% of the camera's frames")
        axes.grid(True, color=GRID, linewidth=0.7)
        axes.legend(
            frameon=False,
            fontsize=10,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=3,
            labelcolor=INK,
            handlelength=1.5,
            columnspacing=1.4,
        )

    return svg_plot("waiting", (5.2, 3.7), draw, "Share of frames known after a time")


def _arrivals(content: ReportContent, name: str) -> list[float]:
    return [row.arrivals[name] for row in content.timeline if name in row.arrivals]


def bytes_per_block(content: ReportContent) -> str:
    """Mean payload bytes of each block kind, to scale."""

    def draw(axes: Axes) -> None:
        figures = [*reversed(content.blocks)]
        sizes = [item.mean_bytes for item in figures]
        axes.barh(range(len(figures)), sizes, color=[item.kind.colour for item in figures], height=0.66)
        top = max(sizes, default=1.0) or 1.0
        for place, size in enumerate(sizes):
            axes.text(size + top * 0.015, place, f"{size:.0f}", va="center", fontsize=10)
        axes.set_yticks(range(len(figures)), [item.kind.title for item in figures])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlim(0, top * 1.14)
        axes.set_xlabel("payload bytes a frame (mean over all frames encoded)")
        axes.xaxis.grid(True, color=GRID, linewidth=0.7)
        axes.spines["left"].set_visible(False)

    return svg_plot("bytes", (5.2, 0.9 + 0.36 * len(content.blocks)), draw, "Mean bytes of each block")


def agreement(content: ReportContent) -> str:
    """What the newest readings are worth per level, semhier beside JPEG."""
    jpeg = content.jpeg

    def draw(axes: Axes) -> None:
        names = content.level_names
        width = 0.36 if jpeg else 0.5
        for place in range(len(names)):
            pairs = [(content.precision[place], content.kinds[place].colour, -width / 2 - 0.01 if jpeg else 0.0)]
            if jpeg:
                pairs.append((jpeg.precision[place], JPEG_COLOUR, width / 2 + 0.01))
            for value, colour, shift in pairs:
                height = 100 * (value or 0.0)
                axes.bar(place + shift, height, width, color=colour)
                text = "–" if value is None else f"{height:.0f}"
                axes.text(place + shift, height + 1.5, text, ha="center", fontsize=10)
        if jpeg:
            words = "coloured: semhier   grey: JPEG"
            axes.text(0.99, 1.0, words, transform=axes.transAxes, ha="right", va="top", color=FAINT, fontsize=9.5)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", labelcolor=INK)
        axes.set_ylim(0, 108)
        axes.set_ylabel(f"% {content.words.unit}")
        axes.yaxis.grid(True, color=GRID, linewidth=0.7)

    return svg_plot("agreement", (5.2, 3.2), draw, content.words.title)
