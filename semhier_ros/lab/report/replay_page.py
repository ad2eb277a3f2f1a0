"""The report of a replay: one HTML file that needs no network, on a phone and on paper too.

First the verdict in three sentences and one picture; then frames refining block by block, every frame's arrivals,
delays, rate and accuracy, what the budget went to, and a film strip of what each receiver knew at a moment. Long runs
keep every frame in the timeline, which is drawn from a compact table as it is looked at, so that ten minutes stay small
and open fast.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.drawing import LEVEL_COLOURS
from semhier_ros.codec.packet import Block
from semhier_ros.codec.reading import Detection, TrackedObject
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.replay.measures import first_arrivals, split_cameras, waits_of
from semhier_ros.lab.replay.work import Result, best_rival, ceiling_of
from semhier_ros.lab.report import plots
from semhier_ros.lab.report.page import data_uri, link_words, percent, render_page, webp
from semhier_ros.lab.results import processor
from semhier_ros.lab.scoring.figures import percentile
from semhier_ros.lab.scoring.living import scenes_at
from semhier_ros.lab.scoring.streaming import newest_at
from semhier_ros.received import read_blocks

MOMENTS, STRIP_FRAMES = 4, 3
STRIP_WIDTH = 560
MOST_ROWS = 60_000
RATE, FILM_SECONDS, MOST_PICTURES = 25.0, 10.0, 130
"""Instants a second, how much of a run is shown, and pictures of it at most."""
FILM_WIDTH, FILM_QUALITY = 480, 55
LEAST_FILMED = 0.3
"""What is less sure is left out: detections, and objects of the scene by their existence."""
DETAIL_COLOUR = "#64748b"
PICTURE_COLOURS = ("#7e22ce", "#9d4edd", "#c084fc")


@dataclass(frozen=True, slots=True)
class BlockKind:
    """One block of the stream: its `name`, what people call it (`title`), its `colour`, the `level` of the taxonomy
    that it names (None for detail and pictures) and whether it refines the `picture` only."""

    name: str
    title: str
    colour: str
    level: int | None = None
    picture: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A frame after one more block: `ms` from stamp to arrival, `block_bytes` of this block and `total_bytes` of the
    frame's payload so far, what is read now with its boxes' `colour`, and the picture of this prefix (a WebP file; None
    for models without picture blocks)."""

    block: BlockKind
    ms: float
    block_bytes: int
    total_bytes: int
    detections: tuple[Detection, ...]
    colour: str
    picture: bytes | None


def render(result: Result, seconds: float = 0.0, command: str = "replay") -> str:
    """The report of a replay as text. `seconds`: what the run took, for the facts; `command` that ran."""
    summary, kinds = result.summary, kinds_of(result)
    drawn = {
        "precision": plots.precision_plot(summary, ceiling_of(summary)),
        "rate": plots.rate_accuracy_plot(summary),
        "waiting": plots.waiting_plot(curves(result)),
        "budget": plots.budget_plot(summary),
    }
    return render_page(
        "replay.html.j2",
        command=command,
        link=link_words(result.link),
        footage=", ".join(summary["bags"]),
        rival=best_rival(summary, next(iter(ceiling_of(summary)))),
        summary=summary,
        ceiling=ceiling_of(summary),
        whole_image=result.reader.codec.whole_image,
        plots={name: data_uri(text.encode()) for name, text in drawn.items()},
        strip=strip(result, kinds),
        blocks=blocks(result, kinds),
        moments=moments(result),
        path=partial(bars, result, kinds),
        tried={name: rows for name, one in result.streams.items() if (rows := getattr(one, "tried", None))},
        table=timeline_table(result),
        film=film(result),
        film_rate=f"{RATE:g}",
        above=result.above,
        processor=processor(),
        seconds=seconds,
        colours=plots.COLOURS,
    )


def kinds_of(result: Result) -> tuple[BlockKind, ...]:
    """The kinds of the model's blocks. Levels are called by the name of their only node, else by their own."""
    codec, kinds = result.reader.codec, []
    semantic, levels = codec.semantic_blocks, list(zip(codec.taxonomy.level_names, codec.taxonomy.levels, strict=True))
    for index, name in enumerate(codec.block_names):
        if index < min(semantic, len(levels)):
            called, nodes = levels[index]
            title = f"any {nodes[0].name}" if len(nodes) == 1 else called
            kinds.append(BlockKind(name, title, LEVEL_COLOURS[index % len(LEVEL_COLOURS)], level=index))
        elif index < semantic:
            kinds.append(BlockKind(name, name.replace("_", " "), DETAIL_COLOUR))
        else:
            number = index - semantic
            colour = PICTURE_COLOURS[min(number, len(PICTURE_COLOURS) - 1)]
            kinds.append(BlockKind(name, f"picture {number + 1}", colour, picture=True))
    return tuple(kinds)


def blocks(result: Result, kinds: Sequence[BlockKind]) -> list[dict[str, Any]]:
    """Of each block of semhier's run: frames of which it was sent and arrived, the median delay of its arrival in ms,
    and payload bytes of those that arrived (mean, 95th percentile)."""
    run = result.runs.get("semhier")
    if run is None:
        return []
    rows, arrived = [], first_arrivals(run.blocks)
    for index, kind in enumerate(kinds):
        first = {key: came[index] for key, came in arrived.items() if index in came}
        waits = [(at - result.cameras[place].times_ns[number] / 1e9) * 1e3 for (place, number), at in first.items()]
        sizes = [float(len(run.parts[place, number, index])) for place, number in first]
        rows.append(
            {
                "kind": kind,
                "sent": run.counters.get(f"sent_{kind.name}"),
                "arrived": len(first),
                "p50": percentile(waits, 0.5),
                "mean_bytes": float(np.mean(sizes)) if sizes else None,
                "p95_bytes": percentile(sizes, 0.95),
            }
        )
    return rows


def curves(result: Result) -> list[tuple[str, str, str, list[float], int]]:
    """The curves of the waiting plot: every codec's coarse reading, semhier's finest level too."""
    found = []
    last = result.reader.levels - 1
    for name, run in result.runs.items():
        wanted = [(0, "-"), (last, "--")] if name == "semhier" else [(0, "-")]
        for level, style in wanted:
            title, colour = f"{name}, finest" if style == "--" else name, plots.COLOURS.get(name, plots.INK)
            found.append((title, colour, style, waits_of(run.answers, level), sum(run.offered)))
    return found


def timeline_table(result: Result) -> dict[str, Any]:
    """Every frame as a row [camera, seconds, ms of each block or -1 …, words of its reading], of semhier or else the
    first codec."""
    name = "semhier" if "semhier" in result.runs else next(iter(result.runs))
    run = result.runs[name]
    blocks = list(result.reader.block_names) if name == "semhier" else ["reading"]
    named = result.reader.levels if name == "semhier" else 1
    ready = ready_times(run.answers, run.blocks, len(blocks), named)
    words: dict[tuple[int, int], tuple[int, str]] = {}
    for item in run.answers:
        key = (item.camera, item.number)
        if item.prefix >= words.get(key, (-1, ""))[0]:
            words[key] = (item.prefix, in_words([found.names[-1] for found in item.detections]))
    rows = []
    for place, camera in enumerate(result.cameras):
        for number, time in enumerate(camera.times_ns):
            moments = ready.get((place, number), [None] * len(blocks))
            row = [-1 if at is None else round((at - time / 1e9) * 1e3) for at in moments]
            rows.append([place, round(time / 1e9, 2), row, words.get((place, number), (0, ""))[1]])
    return {
        "codec": name,
        "blocks": blocks,
        "colours": list(plots.BLOCK_COLOURS[: len(blocks)]),
        "cameras": [camera.name for camera in result.cameras],
        "rows": rows[:MOST_ROWS],
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


def ready_times(
    answers: Sequence[Answer], blocks: Sequence[tuple[int, int, int, float]], count: int, named: int
) -> dict[tuple[int, int], list[float | None]]:
    """(camera, frame) -> when a reading had each of its `count` blocks in it; None: never.

    Blocks from `named` on name nothing and may change no reading: they count once they and all before them are there.
    """
    ready: dict[tuple[int, int], list[float | None]] = {}
    for item in sorted(answers, key=lambda one: one.ready):
        row = ready.setdefault((item.camera, item.number), [None] * count)
        for index in range(min(item.prefix + 1, count)):
            if row[index] is None:
                row[index] = item.ready
    for key, came in first_arrivals(blocks).items():
        row = ready.get(key, [])
        for index in range(named, len(row)):
            last = row[index - 1]
            if row[index] is None:
                if last is None or index not in came:
                    break
                row[index] = max(last, came[index])
    return ready


def in_words(names: Sequence[str]) -> str:
    """`3 car, 1 van` of the names of what was found; "nothing" for none."""
    counts = Counter(names).most_common(4)
    return ", ".join(f"{count} {name}" for name, count in counts) or "nothing"


def strip(result: Result, kinds: Sequence[BlockKind]) -> list[dict[str, Any]]:
    """Frames of semhier's run that show best how a reading refines: objects, all levels, as many blocks as possible,
    spread over the footage."""
    run = result.runs.get("semhier")
    if run is None:
        return []
    answers: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for item in sorted(run.answers, key=lambda one: one.ready):
        answers[item.camera, item.number].append(item)
    arrived = first_arrivals(run.blocks)
    last = result.reader.levels - 1

    def worth(key: tuple[int, int]) -> float:
        fine = [item for item in answers[key] if item.level == last]
        found = fine[-1].detections if fine else ()
        sure = sorted((float(np.prod(item.scores)) for item in found), reverse=True)[:4]
        large = sum(1 for item in found if item.box[2] - item.box[0] > 40)
        return sum(sure) + 0.15 * min(large, 4) + 0.3 * len(arrived[key]) + (2.0 if fine else 0.0)

    chosen: list[tuple[int, int]] = []
    seen: set[str] = set()
    for key in sorted(answers, key=worth, reverse=True):
        place, number = key
        camera = result.cameras[place]
        apart, same = 0.12 * camera.times_ns[-1], [other for one, other in chosen if one == place]
        near = any(abs(camera.times_ns[number] - camera.times_ns[other]) < apart for other in same)
        if not near and camera.key(number) not in seen:
            chosen.append(key)
            seen.add(camera.key(number))
        if len(chosen) == STRIP_FRAMES:
            break
    return [_strip_frame(result, kinds, key, answers[key], arrived[key]) for key in chosen]


def _strip_frame(
    result: Result, kinds: Sequence[BlockKind], key: tuple[int, int], answers: Sequence[Any], arrived: dict[int, float]
) -> dict[str, Any]:
    camera, number = result.cameras[key[0]], key[1]
    shown = [kind for index, kind in enumerate(kinds) if all(before in arrived for before in range(index + 1))]
    blocks, pictures = pictures_of(result, camera, number, len(shown))
    deepest = [kind.colour for kind in kinds if kind.level is not None][-1]
    steps, total, ready = [], 0, 0.0
    for index, (kind, block, picture) in enumerate(zip(shown, blocks, pictures, strict=True)):
        level = len([one for one in kinds[: index + 1] if one.level is not None]) - 1
        known = [item for item in answers if item.level >= level and item.prefix >= index]
        if not known and kind.level is not None:
            break
        reading = known[0] if known else answers[-1]  # a block that names nothing may change no reading
        total += len(block.data)
        ready = known[0].ready if known else max(ready, arrived[index])
        ms = (ready - camera.times_ns[number] / 1e9) * 1e3
        colour = kind.colour if kind.level is not None else deepest
        found = tuple(item.down_to(level) for item in reading.detections)
        shown_picture = None if picture is None else webp(picture, STRIP_WIDTH)
        steps.append(Step(kind, ms, len(block.data), total, found, colour, shown_picture))
    missing = [kind.title for kind in kinds[len(steps) :]]
    return _frame(camera, camera.times_ns[number] / 1e9, camera.image(number)) | {"steps": steps, "missing": missing}


def _frame(camera: Any, seconds: float, image: np.ndarray) -> dict[str, Any]:
    """What every frame that is shown says of itself."""
    width, height = camera.size
    return {"seconds": seconds, "width": width, "height": height, "image": webp(image, STRIP_WIDTH)}


def pictures_of(result: Result, camera: Any, number: int, count: int) -> tuple[list[Block], list[np.ndarray | None]]:
    """The first `count` blocks of a frame of semhier's, and the picture decoded after each of them, where the model has
    any."""
    reader = result.reader
    blocks = reader.blocks(camera, number, whole=count > reader.semantic_blocks)[:count]
    return blocks, [known.picture() for known in read_blocks(reader.codec, blocks, camera.size)]


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
        views = []
        for name, run in result.runs.items():
            (seen,) = newest_at(split_cameras(run.answers, len(result.cameras))[0], np.array([now]), 0)
            picture = result.picture_at(name, now)
            views.append(
                {
                    "name": name,
                    "age": None if seen is None else (now - seen.stamp_ns / 1e9) * 1e3,
                    "detections": () if seen is None else seen.detections,
                    "colour": plots.COLOURS.get(name, plots.INK),
                    "picture": None if picture is None else webp(picture, STRIP_WIDTH),
                }
            )
        shown.append(_frame(camera, now, result.image_at(now)) | {"truth": world.truths[place], "views": views})
    return shown


def bars(result: Result, kinds: Sequence[BlockKind], detections: Sequence[Detection]) -> list[dict[str, Any]]:
    """A whole image's reading as one bar a level; names are missing below the level that is known."""
    found = detections[0] if detections else None
    rows = []
    for level, kind in enumerate(one for one in kinds if one.level is not None):
        row: dict[str, Any] = {"title": kind.title, "name": "", "score": 0.0, "colour": kind.colour, "others": ""}
        if found is not None and level < len(found.path):
            row |= {"name": found.names[level], "score": found.scores[level]}
            if level == len(found.path) - 1 and found.others_at(level):
                names = result.reader.codec.taxonomy.names(level)
                others = [f"{names[node]} {percent(score)}" for node, score in found.others_at(level)[:2]]
                row["others"] = "or " + ", ".join(others)
        rows.append(row)
    return rows


def film(result: Result) -> dict[str, Any] | None:
    """The scene as a planner had it, played: what the receiver foretold 25 times a second, beside the newest reading
    and the truth, of the first camera; None where nothing of ours was foretold.

    The truth, and the picture behind it, are of the instants that are judged; between two of them only the scene moves.
    `size`: width and height of the camera's frame, to which boxes are; `pictures`: data URIs; `instants`:
    rows [seconds, number of the picture, truth, reading, its age in ms or None, scene] of boxes [x0, y0, x1, y1, name].
    """
    run = result.runs.get("semhier")
    if run is None or not result.task.forecast or result.reader.codec.whole_image:
        return None
    camera, world = result.cameras[0], result.worlds[0]
    given = split_cameras(run.answers, len(result.cameras))[0]
    first = busiest(np.array([len(truth) for truth in world.truths]), world.instants)
    last = min(first + FILM_SECONDS, float(world.instants[-1]))
    instants = first + np.arange(int((last - first) * RATE + 1e-6) + 1) / RATE
    scenes = scenes_at(given, instants, camera.size, result.reader.codec.taxonomy)
    readings = newest_at(given, instants, 0)
    judged = np.flatnonzero((world.instants >= first - 1e-6) & (world.instants <= last + 1e-6))
    judged = judged[:: -(-len(judged) // MOST_PICTURES)]
    behind = np.searchsorted(world.instants[judged], instants + 1e-6, side="right") - 1
    rows = []
    for now, place, reading, scene in zip(instants.tolist(), behind.tolist(), readings, scenes, strict=True):
        age = None if reading is None else round((now - reading.stamp_ns / 1e9) * 1e3)
        seen = () if reading is None else reading.detections
        told = [_row(item) for item in scene.objects if item.existence >= LEAST_FILMED]
        rows.append([round(now, 3), place, _boxes(world.truths[judged[place]]), _boxes(seen), age, told])
    images = (result.image_at(now) for now in world.instants[judged].tolist())
    pictures = [data_uri(webp(image, FILM_WIDTH, FILM_QUALITY)) for image in images]
    return {"size": list(camera.size), "pictures": pictures, "instants": rows}


def busiest(objects: NDArray[np.int64], instants: NDArray[np.float64]) -> float:
    """Where the FILM_SECONDS begin in which most objects are seen; the first instant of a shorter run."""
    ends = np.searchsorted(instants, instants + FILM_SECONDS, side="right")
    whole = ends < len(instants)
    if not whole.any():
        return float(instants[0])
    sums = np.concatenate([[0], np.cumsum(objects)])
    mean = (sums[ends] - sums[:-1]) / (ends - np.arange(len(ends)))
    return float(instants[int(np.where(whole, mean, -1.0).argmax())])


def _boxes(found: Sequence[Detection]) -> list[list[Any]]:
    return [_row(item) for item in found if item.scores[0] >= LEAST_FILMED]


def _row(item: Detection | TrackedObject) -> list[Any]:
    return [*(round(side) for side in item.box), item.names[-1]]
