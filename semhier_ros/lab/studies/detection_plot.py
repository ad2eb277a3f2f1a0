"""Bytes against AP50, a panel for every level: each codec's best operating points, and the uncompressed detector."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib.figure import Figure

COLOURS = {"semhier": "#0f766e", "answer": "#7c3aed", "jpeg": "#b91c1c", "webp": "#c2410c", "avif": "#1d4ed8"}
OTHER_COLOURS = ("#0891b2", "#a16207", "#be185d", "#4d7c0f")
TITLES = ("coarsest level", "groups", "types")
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "detection", "font.family": "sans-serif"}


def draw(result: dict[str, Any]) -> str:
    """The plot of a result of `semhier measure detection`, as SVG text."""
    levels = list(result["uncompressed"]["ap50"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(levels), 4.2), layout="constrained")
        panels = figure.subplots(1, len(levels), sharey=False, squeeze=False)[0]
        for number, (panel, level) in enumerate(zip(panels, levels, strict=True)):
            best = result["uncompressed"]["ap50"][level]
            panel.axhline(best, color="#78716c", linewidth=1, linestyle="--")
            panel.annotate("uncompressed", (1, best), (-2, 3), ("axes fraction", "data"), "offset points", ha="right")
            spare = iter(OTHER_COLOURS * 3)
            for kind, rows in result["codecs"].items():
                colour = COLOURS.get(kind) or next(spare)
                points = sorted(
                    (row["payload_bytes_mean"], row["ap50"][level])
                    for row in rows
                    if level in row["ap50"] and level in row["best_at"]
                )
                if points:
                    panel.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=kind)
            panel.set_xscale("log")
            panel.set_ylim(bottom=0)
            panel.set_xlabel("payload bytes a frame, mean")
            panel.set_title(f"{level}: {TITLES[min(number, len(TITLES) - 1)]}, AP50")
            panel.grid(alpha=0.25)
        if result["codecs"]:
            panels[0].legend(fontsize=8, loc="lower right")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
