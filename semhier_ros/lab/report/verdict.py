"""The verdict in three sentences, the five lines of the terminal, and summary.json: words and figures from one
source."""

from __future__ import annotations

from typing import Any

from semhier_ros.lab.report.content import ReportContent
from semhier_ros.lab.scoring.delivery import BudgetUse, Delivered


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


def _times(result: Delivered) -> str:
    return f"half of them within {milliseconds(result.delays.p50)}, 95 % within {milliseconds(result.delays.p95)}"


def verdict(content: ReportContent) -> list[str]:
    """Three sentences: what arrived and when, what it cost, and what JPEG did with the same link."""
    coarse, fine = content.levels[0], content.levels[-1]
    first = (
        f"Over a link of {content.link}, {coarse.arrived} of {coarse.sent} camera frames had a coarse reading "
        f"({percent(coarse.share)}), {_times(coarse)} of the camera's stamp; the finest names followed for "
        f"{fine.arrived}, at a median of {milliseconds(fine.delays.p50)}."
    )
    second = (
        f"{content.words.said} took {content.semantic_bytes:.0f} bytes a frame; what was left of "
        f"the {content.rate / content.frames_per_second:.0f} bytes that the link has for a frame brought a picture for "
        f"{content.pictures.arrived} frames, and the budget was {'kept' if content.wire.kept else 'NOT kept'}."
    )
    jpeg, words = content.jpeg, content.words
    if jpeg is None:
        return [first, second, "JPEG was not sent beside it in this run."]
    third = (
        f"{words.same} as JPEG over the same link, at the best of the settings tried, brought "
        f"{jpeg.pictures.arrived} pictures at a median of {milliseconds(jpeg.pictures.delays.p50)}; "
        f"{words.measured.format(percent(_mean(content.precision)))} for semhier and "
        f"{percent(_mean(jpeg.precision))} for JPEG ({words.unit}, mean of the {len(content.precision)} levels)."
    )
    return [first, second, third]


def five_lines(content: ReportContent, report: str) -> list[str]:
    """What `semhier demo` prints at its end."""
    coarse = content.levels[0]
    blocks = ", ".join(f"{item.kind.title} {item.mean_bytes:.0f}" for item in content.blocks)
    lines = [
        f"{content.words.footage} ({content.frames_sent} frames, {content.frames_per_second:g} a second) went from a "
        f"camera process through a link of {content.link} to a receiving process.",
        f"{coarse.arrived} of {coarse.sent} frames ({percent(coarse.share)}) had a coarse reading: median "
        f"{milliseconds(coarse.delays.p50)}, 95 % within {milliseconds(coarse.delays.p95)}; the finest names: median "
        f"{milliseconds(content.levels[-1].delays.p50)}.",
        f"Bytes a frame, block by block: {blocks}.",
    ]
    jpeg = content.jpeg
    if jpeg is None:
        lines.append("JPEG beside it: not run.")
    else:
        lines.append(
            f"JPEG beside it, at its best ({jpeg.setting}): {jpeg.pictures.arrived} pictures, median "
            f"{milliseconds(jpeg.pictures.delays.p50)}; {content.words.short} at any instant "
            f"{percent(_mean(jpeg.precision))}, semhier {percent(_mean(content.precision))}."
        )
    lines.append(f"The report to look at: {report}")
    return lines


def summary(content: ReportContent) -> dict[str, Any]:
    """The figures as JSON knows them. Streaming precision per level `L0` …; delays in ms; bytes per second on IP."""
    codecs: dict[str, Any] = {
        "semhier": {
            content.words.key: _levels(content.precision),
            "coarse_ms": _delays(content.levels[0]),
            "fine_ms": _delays(content.levels[-1]),
            "picture_ms": _delays(content.pictures),
            "delivered": round(content.levels[0].share, 4),
            "levels": {f"L{level}": result.as_dict() for level, result in enumerate(content.levels)},
            "pictures": content.pictures.as_dict(),
            "blocks": {
                item.kind.name: {
                    "made": item.made,
                    "sent": item.sent,
                    "arrived": item.delivered.arrived,
                    "mean_bytes": round(item.mean_bytes, 1),
                    "p95_bytes": round(item.p95_bytes, 1),
                }
                for item in content.blocks
            },
            "semantic_bytes_per_frame": round(content.semantic_bytes, 1),
            "payload_bytes_per_frame": round(content.frame_bytes, 1),
            **_wire(content.wire),
            "datagrams": content.datagrams,
        }
    }
    if content.jpeg is not None:
        codecs["jpeg"] = {
            "setting": content.jpeg.setting,
            content.words.key: _levels(content.jpeg.precision),
            "coarse_ms": {
                key: None if value is None else round(value + content.jpeg.detector_ms, 1)
                for key, value in _delays(content.jpeg.pictures).items()
            },
            "detector_ms": round(content.jpeg.detector_ms, 1),
            "picture_ms": _delays(content.jpeg.pictures),
            "delivered": round(content.jpeg.pictures.share, 4),
            "pictures": content.jpeg.pictures.as_dict(),
            "pictures_begun": content.jpeg.begun,
            "mean_bytes": round(content.jpeg.mean_bytes, 1),
            **_wire(content.jpeg.wire),
        }
    return {
        "link": content.link,
        "frames_sent": content.frames_sent,
        "frames_per_second": content.frames_per_second,
        "footage": content.footage,
        "verdict": verdict(content),
        f"{content.words.key}_without_link": _levels(content.ceiling),
        "codecs": codecs,
        "facts": content.facts,
    }


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _levels(values: tuple[float | None, ...]) -> dict[str, float | None]:
    return {f"L{level}": None if value is None else round(value, 4) for level, value in enumerate(values)}


def _delays(result: Delivered) -> dict[str, float | None]:
    return {key: value for key, value in result.as_dict()["ms"].items() if key in ("p50", "p95", "p99")}


def _wire(use: BudgetUse) -> dict[str, Any]:
    return {
        "wire_bytes_per_s": round(use.mean, 1),
        "wire_bytes_busiest_second": use.busiest_second,
        "budget_bytes_per_s": use.rate,
        "budget_kept": use.kept,
        "budget_excess_bytes": round(use.excess, 1),
        "budget_allowance_bytes": use.largest + use.apart,
    }
