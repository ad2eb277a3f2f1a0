"""Plots as SVG files (matplotlib, without a display): of replays, sweeps and the studies of bytes against accuracy."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LOST_COLOUR = "#dc2626"
INK, FAINT = "#1c1917", "#57534e"
STYLE = Path(__file__).with_name("plots.mplstyle")


def svg_plot(name: str, size: tuple[float, float], draw: Callable[..., None], panels: int = 1) -> str:
    """A plot as an SVG file's text, the same for the same figures. panels: axes that `draw` is given."""
    with matplotlib.rc_context({"svg.hashsalt": name}, STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(*figure.subplots(1, panels, squeeze=False)[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns)


UNITS = {"streaming_ap50": "% streaming AP50", "streaming_accuracy": "% of instants with the right name"}
COLOURS = {
    "semhier": "#1d4ed8",
    "answer": "#78716c",
    "jpeg": "#c2410c",
    "webp": "#a16207",
    "h264": "#7e22ce",
    "no link": "#1c1917",
}
BLOCK_COLOURS = ("#c2410c", "#1d4ed8", "#047857", "#64748b", "#7e22ce", "#9d4edd", "#c084fc", "#d8b4fe")


def _points(
    summary: dict[str, Any],
) -> Iterator[tuple[int, int, float | None, list[float] | None, dict[str, Any], Any]]:
    """(place of the codec, place of the level, precision in percent, its interval, how it is drawn, all of the codec)
    of every codec of a replay at every level; the legend names each codec once."""
    measure = summary["measure"]
    for order, (name, one) in enumerate(summary["codecs"].items()):
        for place, (level, value) in enumerate(one[measure].items()):
            drawn = {"color": COLOURS.get(name, INK), "label": name if place == 0 else None}
            span = [100 * end for end in one[f"{measure}_ci95"][level] or ()]
            yield order, place, None if value is None else 100 * value, span, drawn, one


def sweep_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Streaming precision of every codec over the rate, coarse level, losses side by side."""
    level = next(iter(rows[0]["ceiling"]))
    losses = sorted({row["loss"] for row in rows})
    names = list(dict.fromkeys(name for row in rows for name in row["codecs"]))

    def draw(axes: Axes) -> None:
        styles = ("-", "--", ":", "-.")
        for name in names:
            for place, loss in enumerate(losses):
                points: dict[float, list[float]] = {}
                for row in rows:
                    value = row["codecs"].get(name, {}).get(row["measure"], {}).get(level)
                    if row["loss"] == loss and value is not None:
                        points.setdefault(row["rate_kbit"], []).append(value)
                xs = sorted(points)
                ys = [100 * sum(points[x]) / len(points[x]) for x in xs]
                drawn: Any = {"color": COLOURS.get(name, INK), "label": name if place == 0 else None}
                axes.plot(xs, ys, styles[place % 4], marker="o", markersize=4, **drawn)
        axes.set_xscale("log", base=2)
        ticks = sorted({row["rate_kbit"] for row in rows})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        measure = UNITS["streaming_" + rows[0]["measure"]]
        axes.set(xlabel="link, kbit/s", ylabel=f"{measure}, {level}, mean over bags", ylim=(0, None))
        axes.grid(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        words = "   ".join(
            f"{['solid', 'dashed', 'dotted', 'dash-dot'][p % 4]}: {100 * v:g} % loss" for p, v in enumerate(losses)
        )
        axes.set_title(words, fontsize=9.5, color=FAINT, loc="left")

    return svg_plot("sweep", (7.6, 4.2), draw)


def precision_plot(summary: dict[str, Any], ceilings: Mapping[str, float | None]) -> str:
    """The first picture: streaming precision per level and codec, with intervals, the ceiling as a line."""

    def draw(axes: Axes) -> None:
        width = 0.8 / len(summary["codecs"])
        for order, place, value, span, drawn, _ in _points(summary):
            x, height = place - 0.4 + width * (order + 0.5), value or 0.0
            axes.bar(x, height, width * 0.92, **drawn)
            if span:
                axes.vlines(x, span[0], span[1], color=INK, linewidth=1.1)
            axes.text(x, max(height, *(span or [0])) + 1.2, f"{height:.0f}", ha="center", fontsize=9)
        for place, ceiling in enumerate(ceilings.values()):
            if ceiling is not None:
                ends = (place - 0.44, place + 0.44)
                axes.hlines(100 * ceiling, *ends, color=FAINT, linewidth=1.2, linestyle=(0, (3, 2)))
        titles = zip(ceilings, summary["level_names"], strict=False)
        axes.set_xticks(range(len(ceilings)), [f"{level} · {title}" for level, title in titles])
        axes.tick_params(axis="x", labelcolor=INK)
        axes.set(ylim=(0, 108), ylabel=UNITS[summary["measure"]])
        axes.yaxis.grid(True)
        _legend_above(axes, 5)

    return svg_plot("precision", (7.2, 3.4), draw)


def rate_accuracy_plot(summary: dict[str, Any]) -> str:
    """Where every codec stands: wire bytes a second across, precision up; a mark a level."""
    levels = list(next(iter(summary["codecs"].values()))[summary["measure"]])

    def draw(axes: Axes) -> None:
        for _, place, value, _, drawn, one in _points(summary):
            if value is not None:
                axes.plot([one["wire_bytes_per_s"]], [value], "os^D"[place % 4], markersize=7, **drawn)
        axes.axvline(summary["budget_bytes_per_s"], color=LOST_COLOUR, linewidth=1, linestyle=(0, (3, 2)))
        axes.set(xlim=(0, None), ylim=(0, None), ylabel=UNITS[summary["measure"]])
        axes.set_xlabel("bytes a second on the wire, headers included; red: the budget")
        axes.grid(True)
        _legend_above(axes, 5)
        words = "   ".join(f"{['round', 'square', 'triangle', 'diamond'][p % 4]}: {v}" for p, v in enumerate(levels))
        axes.text(0.99, 0.02, words, transform=axes.transAxes, ha="right", color=FAINT, fontsize=9)

    return svg_plot("rate", (5.4, 3.6), draw)


def waiting_plot(curves: Sequence[tuple[str, str, str, Sequence[float], int]]) -> str:
    """Share of frames known after so many ms; `curves`: (title, colour, line style, delays in ms, frames)."""
    latest = max((max(values) for _, _, _, values, _ in curves if values), default=500.0)
    limit = max(200.0, min(2500.0, latest * 1.03))

    def draw(axes: Axes) -> None:
        for title, colour, style, values, total in curves:
            ordered = sorted(values)
            ys = [0.0, *[100 * (place + 1) / max(total, 1) for place in range(len(ordered))]]
            drawn: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 2, "label": title}
            axes.step([0.0, *ordered, limit], [*ys, ys[-1]], where="post", **drawn)
        axes.set(xlim=(0, limit), ylim=(0, 102))
        axes.set(xlabel="milliseconds since the camera took the frame", ylabel="% of the camera's frames")
        axes.grid(True)
        _legend_above(axes, 3)

    return svg_plot("waiting", (5.4, 3.7), draw)


def budget_plot(summary: dict[str, Any]) -> str:
    """What each codec's bytes went to, as shares of what it sent."""
    names = list(summary["codecs"])

    def draw(axes: Axes) -> None:
        for place, name in enumerate(reversed(names)):
            parts = summary["codecs"][name]["budget"]
            total = sum(part["bytes"] for part in parts.values()) or 1
            left = 0.0
            for order, (purpose, part) in enumerate(parts.items()):
                share = 100 * part["bytes"] / total
                axes.barh(place, share, 0.66, left=left, color=BLOCK_COLOURS[order % len(BLOCK_COLOURS)])
                if share > 9:
                    axes.text(left + share / 2, place, purpose, ha="center", va="center", fontsize=8.5, color="white")
                left += share
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set(xlim=(0, 100), xlabel="% of the bytes that it put on the wire")
        axes.spines["left"].set_visible(False)

    return svg_plot("budget", (5.4, 0.9 + 0.45 * len(names)), draw)


def bytes_plot(result: dict[str, Any], measure: str, words: str, titles: Sequence[str] = ()) -> str:
    """Payload bytes against a measure, a panel for every level: each codec's best operating points, pictures that an
    independent judge read with dashes, and what no coding gives. `result`: of a study."""
    levels = [name for name in result["uncompressed"][measure] if name.startswith("L")]

    def draw(*panels: Axes) -> None:
        for number, (panel, level) in enumerate(zip(panels, levels, strict=True)):
            panel.axhline(result["uncompressed"][measure][level], color=FAINT, linewidth=1, linestyle="--")
            for place, (name, rows) in enumerate(result["codecs"].items()):
                for key, style in ((measure, "-"), (f"judge_{measure}", "--")):
                    points = sorted(
                        (row["payload_bytes_mean"], row[key][level])
                        for row in rows
                        if level in row.get(key, {}) and level in row.get("best_at", levels)
                    )
                    if points:
                        label = name if key == measure else f"{name}, picture judged"
                        colour = COLOURS.get(name, f"C{place}")
                        panel.plot(
                            *zip(*points, strict=True), style, marker="o", markersize=4, color=colour, label=label
                        )
            title = f"{level}: {titles[min(number, len(titles) - 1)]}" if titles else level
            panel.set(xscale="log", xlabel="payload bytes, mean", title=title, ylim=(0, None))
            panel.grid(True)
        panels[0].set_ylabel(words)
        if result["codecs"]:
            panels[-1].legend(fontsize=8, loc="lower right", frameon=True)

    return svg_plot("bytes", (4.6 * len(levels), 4.2), draw, len(levels))
