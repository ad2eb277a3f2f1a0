"""Accuracy over payload bytes, one panel per level, as an SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """Plot what `evaluate classification` measured: heads with a line, pictures judged with dashes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    levels = [name for name in result["uncompressed"]["accuracy"] if name.startswith("L")]
    figure, panels = pyplot.subplots(1, len(levels), figsize=(5 * len(levels), 4), sharey=True, squeeze=False)
    for panel, level in zip(panels[0], levels, strict=True):
        for number, (name, rows) in enumerate(result["codecs"].items()):
            for kind, style in (("accuracy", "-"), ("judge_accuracy", "--")):
                points = sorted(
                    (row["payload_bytes_mean"], row[kind][level])
                    for row in rows
                    if kind in row and level in row.get("best_at", [level])
                )
                if points:
                    label = name if kind == "accuracy" else f"{name}, picture judged"
                    panel.plot(*zip(*points, strict=True), style, marker="o", ms=3, color=f"C{number}", label=label)
        panel.axhline(result["uncompressed"]["accuracy"][level], color="black", lw=0.8, label="uncompressed")
        panel.set(xscale="log", xlabel="payload bytes", title=level)
    panels[0][0].set_ylabel("share right")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
