"""One replay in virtual time: footage, a link and codecs in; runs, scores and the summary out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semhier_ros.lab.baselines.registry import check_codecs, make_stream
from semhier_ros.lab.baselines.search import reference_world
from semhier_ros.lab.footage.bags import open_footage
from semhier_ros.lab.footage.labels import labelled_world
from semhier_ros.lab.replay.costs import measured
from semhier_ros.lab.replay.measures import Scores, figures_of, split_cameras
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.scoring.living import foretold
from semhier_ros.lab.scoring.streaming import World
from semhier_ros.lab.streams.base import Answer, Costs
from semhier_ros.lab.streams.virtual import Run, run_virtual
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.taxonomy import Taxonomy

BUDGET_SHARE = 0.97
"""What of the link's rate a sender plans with: the rest is for the transport's own messages, which no budget counts."""
COLLECT_AFTER = 100_000
"""Objects between two searches for garbage in circles (Python's own choice is 700): a replay makes hundreds of
thousands of small ones that all stay, and looking through them took a tenth of its time."""
SENT_MORE_THAN_ANSWER = ("semhier", "jpeg", "webp", "h264")

Tell = Callable[[str, float], None]
"""(stage, share of it that is done)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for. `link` in words; `costs` None: measured here; `labels` None: agreement.
    `forecast`: every codec's readings are also foretold to each instant, and scored."""

    bags: tuple[Path, ...]
    link: str
    codecs: tuple[str, ...]
    model: str = "road"
    device: str = "cpu"
    topics: tuple[str, ...] = ()
    labels: Path | None = None
    costs: Costs | None = None
    max_rate: float = 0.0
    finest: int | None = None
    seconds: float | None = None
    frame_rate: float | None = None
    finalists: int = 3
    forecast: bool = True
    cache: Path | None = None


@dataclass(slots=True)
class Result:
    """What came of it. `worlds` and `cameras` stand side by side; `runs` by codec."""

    task: Task
    link: LinkProfile
    rate: float
    cameras: list[Any]
    worlds: list[World]
    reader: Reader
    costs: Costs
    runs: dict[str, Run]
    scores: Scores
    problems: list[str]
    summary: dict[str, Any] = field(default_factory=dict)
    speed: Speed | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """What a replay cost: processor seconds of the `networks` (encoding, detecting; nothing where all was cached) and
    of everything `else_` up to the summary, for `footage` seconds of all cameras together."""

    footage: float
    networks: float
    else_: float

    def __str__(self) -> str:
        total = self.networks + self.else_
        return (
            f"{self.footage:.1f} camera seconds in {total:.1f} s of processor: {self.footage / total:.1f} times real "
            f"time; {self.networks:.1f} s in the networks, {self.else_:.1f} s in everything else "
            f"({self.footage / self.else_:.0f} times real time once they are cached)"
        )


def replay(task: Task, tell: Tell | None = None, reader: Reader | None = None) -> Result:
    """Runs every codec of `task` over the same footage and link, in virtual time.

    Raises BagError, FootageError, StreamError, LabelError or ValueError, each saying what to change.
    """
    often = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *often[1:])
    try:
        return _replay(task, tell, reader)
    finally:
        gc.set_threshold(*often)


def _replay(task: Task, tell: Tell | None, reader: Reader | None) -> Result:
    began = time.process_time()
    say = tell or (lambda stage, share: None)
    link = parse_link(task.link)
    codecs = check_codecs(task.codecs)
    own = reader is None
    if reader is None:
        reader = Reader.load(task.model, task.device, Store(task.cache))
    say("reading the bag", 0.0)
    cameras: list[Any] = []
    problems: list[str] = []
    for bag in task.bags:
        found, wrong = open_footage(
            bag, task.topics, seconds=task.seconds, rate=task.frame_rate, remember=reader.store.made
        )
        cameras += found
        problems += wrong
    costs = task.costs or measured(reader, cameras)
    networks = reader.network_seconds
    rate = link.rate_at(0.0) / 8 * BUDGET_SHARE
    runs: dict[str, Run] = {}
    if "semhier" in codecs:  # first: pictures are cheapest right after their frame's meaning
        own_stream = make_stream(
            "semhier", reader, costs, cameras, link, rate, max_rate=task.max_rate, finest=task.finest
        )
        stage = "semhier over the link"
        runs["semhier"] = run_virtual(own_stream, cameras, link, rate, progress=lambda share: say(stage, share))
    encode_all(reader, cameras, say)
    worlds = [
        labelled_world(task.labels, camera, reader.codec.taxonomy) if task.labels else reference_world(reader, camera)
        for camera in cameras
    ]
    scores = Scores(worlds, reader.levels, link.seed)
    for name in codecs:
        if name == "semhier":
            scores.add(name, runs[name])
            continue
        say(f"{name}: its setting", 0.0)
        stream = make_stream(
            name,
            reader,
            costs,
            cameras,
            link,
            rate,
            max_rate=task.max_rate,
            finest=task.finest,
            finalists=task.finalists,
            progress=lambda share, name=name: say(f"{name}: its setting", share),  # type: ignore[misc]
        )
        stage = f"{name} over the link"
        runs[name] = run_virtual(stream, cameras, link, rate, progress=lambda share, stage=stage: say(stage, share))  # type: ignore[misc]
        scores.add(name, runs[name])
    if task.forecast:
        say("foretelling", 0.0)
        for name in codecs:
            scores.add_answers(forecast_of(name), foretell(runs[name], worlds, cameras, reader.codec.taxonomy))
    scores.add_answers("no link", at_once(reader, cameras), drawn=False)
    runs = {name: runs[name] for name in codecs}
    if own:
        reader.store.flush()
    if reader.store.problem:
        problems.append(reader.store.problem)
    result = Result(task, link, rate, cameras, worlds, reader, costs, runs, scores, problems)
    result.summary = summary_of(result)
    networks = reader.network_seconds - networks
    footage = sum(camera.times_ns[-1] for camera in cameras) / 1e9
    result.speed = Speed(footage, networks, max(time.process_time() - began - networks, 1e-3))
    return result


def encode_all(reader: Reader, cameras: Sequence[Any], say: Tell) -> None:
    """Encodes and reads every frame once, so that what follows finds it made."""
    total = sum(len(camera) for camera in cameras)
    done = 0
    for camera in cameras:
        for number in range(len(camera)):
            reader.encoded(camera, number)
            done += 1
            if done % 8 == 0:
                say("encoding the frames", done / total)
    reader.store.flush()


def forecast_of(name: str) -> str:
    """What a codec's foretold answers are scored under."""
    return f"{name} foretold"


def foretell(run: Run, worlds: Sequence[World], cameras: Sequence[Any], taxonomy: Taxonomy) -> list[Answer]:
    """The living scene of every camera at every instant, from a run's answers."""
    apart = split_cameras(run.answers, len(cameras))
    parts = zip(apart, worlds, cameras, strict=True)
    return [
        answer
        for place, (given, world, camera) in enumerate(parts)
        for answer in foretold(given, world.instants, camera.size, taxonomy, place)
    ]


def at_once(reader: Reader, cameras: Sequence[Any]) -> list[Answer]:
    """Every frame read and there at once: the ceiling that no link can pass."""
    last = reader.levels - 1
    return [
        Answer(place, number, time, time / 1e9, time / 1e9, last, last, reader.reference(camera, number), "no link")
        for place, camera in enumerate(cameras)
        for number, time in enumerate(camera.times_ns)
    ]


def summary_of(result: Result) -> dict[str, Any]:
    """summary.json."""
    task, reader, scores = result.task, result.reader, result.scores
    names = list(result.runs)
    kind = result.worlds[0].kind
    codecs = {}
    for name in names:
        figures = figures_of(result.runs[name], result.worlds, result.cameras, reader.codec.taxonomy)
        codecs[name] = {
            "streaming_ap50": scores.precision(name),
            "streaming_ap50_ci95": scores.intervals(name),
            **figures,
        }
        if task.forecast:
            told = forecast_of(name)
            codecs[name]["forecast"] = {
                "streaming_ap50": scores.precision(told),
                "streaming_ap50_ci95": scores.intervals(told),
                "margin_of_forecast": scores.margin(told, name),
            }
    margins = {name: scores.margin("semhier", name) for name in names if name != "semhier" and "semhier" in result.runs}
    return {
        "link": task.link,
        "budget_bytes_per_s": round(result.rate, 1),
        "engine": "virtual",
        "bags": [str(bag.name) for bag in task.bags],
        "cameras": [
            {
                "topic": camera.topic,
                "frames": len(camera),
                "size": list(camera.size),
                "seconds": round(camera.times_ns[-1] / 1e9, 3),
            }
            for camera in result.cameras
        ],
        "model": {
            "name": reader.codec.name,
            "stream_hash": reader.codec.stream_hash,
            "model_hash": reader.codec.model_hash,
        },
        "truth": kind,
        "truth_in_words": TRUTH[kind],
        "instants": sum(len(world.instants) for world in result.worlds),
        "costs_ms": result.costs.as_ms(),
        "costs": "given" if task.costs else "measured on this machine",
        "level_names": list(reader.codec.taxonomy.level_names),
        "ceiling_ap50": scores.precision("no link"),
        "codecs": codecs,
        "margin_of_semhier": margins,
        "problems": result.problems,
    }


TRUTH = {
    "labels": "Accuracy: readings are scored against labels.",
    "agreement": "Agreement, not accuracy: there are no labels, so readings are scored against what the same detector "
    "reads on the uncompressed frame of that instant. It says how much of what the detector knows survives the link, "
    "not how good the detector is.",
}
