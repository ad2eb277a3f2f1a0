"""The report of a replay: one HTML file that needs no network, on a phone and on paper too.

First the verdict in three sentences and one picture; then every frame's refinement, delays, rate and accuracy, what the
budget went to, and a film strip of what each receiver knew at a moment. Long runs keep every frame in the timeline,
which is drawn from a compact table as it is looked at, so that ten minutes stay small and open fast.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from semhier_ros.lab import report
from semhier_ros.lab.replay.measures import first_ready, split_cameras
from semhier_ros.lab.replay.work import SENT_MORE_THAN_ANSWER, Result
from semhier_ros.lab.report import plots
from semhier_ros.lab.report.page import boxes, data_uri
from semhier_ros.lab.report.verdict import milliseconds, percent
from semhier_ros.lab.report.words import link_words
from semhier_ros.lab.scoring.streaming import newest_at
from semhier_ros.whole_file import write_whole

_HERE = Path(report.__file__).parent
MOMENTS = 5
STRIP_WIDTH = 560
MOST_ROWS = 60_000


def write_report(result: Result, path: Path, seconds: float = 0.0) -> None:
    """Writes the report of a virtual replay. `seconds`: what the run took, for the facts."""
    write_whole(path, render(result, seconds))


def render(result: Result, seconds: float = 0.0) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(data_uri=data_uri, boxes=boxes, percent=percent, ms=milliseconds)
    summary = result.summary
    table = timeline_table(result)
    drawn = {
        "precision": plots.precision_plot(summary),
        "rate": plots.rate_accuracy_plot(summary),
        "waiting": plots.waiting_plot(curves(result)),
        "budget": plots.budget_plot(summary),
    }
    data = json.dumps(table, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("replay.html.j2").render(
        title=link_words(result.link),
        footage=", ".join(summary["bags"]),
        verdict=list(zip(("What arrived", "How right it was", "Beside it"), verdict(summary), strict=True)),
        summary=summary,
        kinds=table["blocks"],
        plots={name: Markup(text) for name, text in drawn.items()},
        moments=moments(result),
        table=Markup(data),
        facts=facts(result, seconds),
        notes=NOTES,
        colours=plots.COLOURS,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8") + (_HERE / "replay.css").read_text("utf-8")),
        script=Markup((_HERE / "replay.js").read_text(encoding="utf-8")),
    )


def verdict(summary: dict[str, Any]) -> tuple[str, str, str]:
    """Three sentences: what arrived and when, how right it was, and what stands beside it."""
    names = list(summary["codecs"])
    own = "semhier" if "semhier" in names else names[0]
    one = summary["codecs"][own]
    frames = sum(camera["frames"] for camera in summary["cameras"])
    coarse, fine = one["coarse_ms"], one["fine_ms"]
    first = (
        f"Of {frames} frames {percent(one['delivered'])} had a coarse reading by {own}, half of them within "
        f"{milliseconds(coarse['p50'])} and 95 % within {milliseconds(coarse['p95'])} of the camera's stamp; the "
        f"finest names came after {milliseconds(fine['p50'])} (median)."
    )
    levels = list(summary["ceiling_ap50"])
    values = ", ".join(f"{level} {_number(one['streaming_ap50'][level])}" for level in levels)
    ceiling = ", ".join(f"{level} {_number(summary['ceiling_ap50'][level])}" for level in levels)
    against = "labels" if summary["truth"] == "labels" else "the same detector on the uncompressed frame (agreement)"
    second = (
        f"At any instant the newest reading scored a streaming AP50 of {values} against {against}; with no link at all "
        f"it would be {ceiling}."
    )
    rivals = [name for name in SENT_MORE_THAN_ANSWER if name in names and name != own]
    if own != "semhier" or not rivals:
        return first, second, "No other codec that sends more than the bare answer was run beside it."
    best = max(rivals, key=lambda name: summary["codecs"][name]["streaming_ap50"][levels[0]] or 0.0)
    margin = summary["margin_of_semhier"][best][levels[0]]
    span = margin["ci95"]
    told = f" (95 % interval {span[0]:+.2f} to {span[1]:+.2f})" if span else ""
    third = (
        f"The best of the others, {best}, reached {_number(summary['codecs'][best]['streaming_ap50'][levels[0]])} at "
        f"{levels[0]}: semhier is {margin['margin'] or 0:+.2f} above it{told}"
    )
    if "answer" in names:
        third += f"; the bare answer, which carries no picture, stands at {_number(_ap(summary, 'answer', levels[0]))}"
    return first, second, third + "."


def _ap(summary: dict[str, Any], name: str, level: str) -> float | None:
    value: float | None = summary["codecs"][name]["streaming_ap50"][level]
    return value


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def curves(result: Result) -> list[tuple[str, str, str, list[float], int]]:
    """The curves of the waiting plot: every codec's coarse reading, semhier's finest level too."""
    found = []
    last = result.reader.levels - 1
    for name, run in result.runs.items():
        wanted = [(0, "-"), (last, "--")] if name == "semhier" else [(0, "-")]
        for level, style in wanted:
            waits = [(ready - stamp / 1e9) * 1e3 for (_, _, stamp), ready in first_ready(run.answers, level).items()]
            title = f"{name}, finest" if style == "--" else name
            found.append((title, plots.COLOURS.get(name, plots.INK), style, waits, sum(run.offered)))
    return found


def timeline_table(result: Result) -> dict[str, Any]:
    """Every frame as a row [camera, seconds, ms of each block or -1 …, words of its reading], of semhier or else the
    first codec."""
    name = "semhier" if "semhier" in result.runs else next(iter(result.runs))
    run = result.runs[name]
    blocks = list(result.reader.block_names) if name == "semhier" else ["reading"]
    arrivals: dict[tuple[int, int], list[float]] = {}
    words: dict[tuple[int, int], tuple[int, str]] = {}
    for item in run.answers:
        key = (item.camera, item.number)
        row = arrivals.setdefault(key, [-1.0] * len(blocks))
        for index in range(min(item.prefix, len(blocks) - 1) + 1):
            if row[index] < 0:
                row[index] = round((item.ready - item.stamp_ns / 1e9) * 1e3)
        if item.prefix >= words.get(key, (-1, ""))[0]:
            words[key] = (item.prefix, in_words([found.names[-1] for found in item.detections]))
    for camera, number, index, arrival in run.blocks:  # a picture block makes no new reading
        found = arrivals.get((camera, number))
        if found is not None and index >= result.reader.semantic_blocks and found[index] < 0:
            found[index] = round((arrival - result.cameras[camera].times_ns[number] / 1e9) * 1e3)
    rows = []
    for place, camera in enumerate(result.cameras):
        for number, time in enumerate(camera.times_ns):
            row = arrivals.get((place, number), [-1] * len(blocks))
            text = words.get((place, number), (0, ""))[1]
            rows.append([place, round(time / 1e9, 2), [int(value) for value in row], text])
    return {
        "codec": name,
        "blocks": blocks,
        "colours": list(plots.BLOCK_COLOURS[: len(blocks)]),
        "cameras": [camera.name for camera in result.cameras],
        "rows": rows[:MOST_ROWS],
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


def in_words(names: Sequence[str]) -> str:
    """`3 car, 1 van` of the names of what was found; "nothing" for none."""
    counts = Counter(names).most_common(4)
    return ", ".join(f"{count} {name}" for name, count in counts) or "nothing"


def moments(result: Result) -> list[dict[str, Any]]:
    """Instants spread over the first camera's run: the street then, and what each receiver knew of it."""
    camera, world = result.cameras[0], result.worlds[0]
    busy = sorted(range(len(world.truths)), key=lambda place: -len(world.truths[place]))
    chosen: list[int] = []
    apart = max(1, len(world.truths) // (MOMENTS + 1))
    early = int(np.searchsorted(world.instants, world.instants[0] + 0.8))
    for place in busy:
        if place >= min(early, len(world.truths) - 1) and all(abs(place - other) >= apart for other in chosen):
            chosen.append(place)
        if len(chosen) == MOMENTS:
            break
    shown = []
    for place in sorted(chosen):
        now = float(world.instants[place])
        number = min(int(np.searchsorted(camera.times_ns, round(now * 1e9))), len(camera) - 1)
        image = camera.image(number)
        views = []
        for name, run in result.runs.items():
            apart_answers = split_cameras(run.answers, len(result.cameras))[0]
            (seen,) = newest_at(apart_answers, np.array([now]), 0)
            age = None if seen is None else (now - seen.stamp_ns / 1e9) * 1e3
            found = () if seen is None else seen.detections
            views.append({"name": name, "age": age, "detections": found, "colour": plots.COLOURS.get(name, plots.INK)})
        shown.append(
            {
                "seconds": now,
                "width": camera.size[0],
                "height": camera.size[1],
                "image": small_picture(image),
                "truth": world.truths[place],
                "views": views,
            }
        )
    return shown


def small_picture(image: np.ndarray) -> bytes:
    """A WebP file of at most 560 pixels' width."""
    height, width = image.shape[:2]
    if width > STRIP_WIDTH:
        image = cv2.resize(image, (STRIP_WIDTH, round(height * STRIP_WIDTH / width)), interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 62])
    if not good:
        raise ValueError(f"OpenCV could not encode {image.shape} as WebP")
    return data.tobytes()


def facts(result: Result, seconds: float) -> dict[str, str]:
    """What ran, in words."""
    summary = result.summary
    cameras = "; ".join(
        f"{item['topic']}, {item['size'][0]}x{item['size'][1]}, {item['frames']} frames, {item['seconds']:g} s"
        for item in summary["cameras"]
    )
    costs = ", ".join(f"{name} {value:g}" for name, value in summary["costs_ms"].items())
    model = summary["model"]
    found = {
        "footage": cameras,
        "link": f"{summary['link']}; senders plan with {summary['budget_bytes_per_s']:g} bytes/s of it",
        "engine": ENGINES[summary["engine"]],
        "model": f"{model['name']}, stream hash {model['stream_hash']}, model hash {model['model_hash']}",
        "computing, ms": f"{costs} ({summary['costs']})",
        "truth": summary["truth_in_words"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }
    if seconds:
        found["this run took"] = f"{seconds:.1f} s"
    for name, figures in summary["codecs"].items():
        found[name] = figures["setting"]
    for number, text in enumerate(summary["problems"], 1):
        found[f"note {number}"] = text
    return found


ENGINES = {
    "virtual": "virtual time: the package's own codec, scheduler and link emulator over a clock that jumps",
    "real": "real: nodes in processes of their own, Zenoh over a UDP relay with the link's rate, delay and losses",
}

NOTES = (
    "Streaming average precision (Li, Wang, Ramanan 2020): at every instant, here every frame's time, the newest "
    "reading that is there is scored against the world as it is at that instant, with an overlap of 0.5, all classes "
    "of a level together; so bytes, losses, waiting and computing all count. Intervals are the middle 95 % of a "
    "moving-block bootstrap over instants (blocks of one second); margins are paired.",
    "A delay counts from the camera's stamp to the moment at which the reading is there: encoding, waiting for the "
    "budget, the link, decoding. Pictures of JPEG, WebP and H.264 are read at the receiver by the very detector that "
    "semhier's encoder runs, and their settings are the best that a search in virtual time found for this link.",
    "All figures are in summary.json beside this file; docs/evaluation.md says how each is measured.",
)
