"""One replay: footage, a link and codecs in; runs, scores and the summary out. Here in virtual time; `real.py` has the
other engine, which shares all but the runs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from semhier_ros.codec.packet import Packet, split
from semhier_ros.footage.bags import distinct, open_footage
from semhier_ros.footage.labels import Notes, labelled_worlds
from semhier_ros.footage.lens import lens_of
from semhier_ros.lab.baselines.pictures import PictureStream, decode_picture
from semhier_ros.lab.baselines.search import make_stream
from semhier_ros.lab.replay.base import Answer, Costs, Run, run_virtual
from semhier_ros.lab.replay.blocks import UNPACED
from semhier_ros.lab.replay.measures import Scores, figures_of, first_arrivals, split_cameras
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import BLOCKS, Task, check_codecs
from semhier_ros.lab.scoring.figures import BudgetUse, budget_use
from semhier_ros.lab.scoring.living import foretold
from semhier_ros.lab.scoring.streaming import World
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.emulate.radio import parse_hop
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import measured
from semhier_ros.received import read_blocks
from semhier_ros.taxonomy import Taxonomy

COLLECT_AFTER = 100_000
"""Objects between two searches for garbage in circles (Python's own choice is 700): a replay makes hundreds of
thousands of small ones that all stay, and looking through them took a tenth of its time."""
RIVALS = ("jpeg", "webp", "h264")
"""Codecs beside ours that send more than the bare answer."""
LARGEST_PAYLOAD = 1200
OWN_BYTES = ZENOH_UDP.wire_bytes(150)
"""A stream description, which goes out every 10 s beside the budget: the most that Zenoh adds to one short window."""

Tell = Callable[[str, float], None]
"""(stage, share of it that is done)."""


@dataclass(slots=True)
class Result:
    """What came of it. `worlds` and `cameras` stand side by side; `runs` and `streams` by codec.

    `judged_camera`: the footage at the instants that are judged, where those are not the camera's frames. `uses`: what
    each run did with its budget. `checks`: what was verified on the way, in words. `above`:
    what `from_above` makes of it.
    """

    task: Task
    cameras: list[Any]
    reader: Reader
    costs: Costs
    engine: str = "virtual"
    problems: list[str] = field(default_factory=list)
    judged_camera: Any = None
    runs: dict[str, Run] = field(default_factory=dict)
    streams: dict[str, Any] = field(default_factory=dict)
    uses: dict[str, BudgetUse] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    worlds: list[World] = field(default_factory=list)
    scores: Any = None
    summary: dict[str, Any] = field(default_factory=dict)
    above: dict[str, Any] | None = None

    @property
    def link(self) -> LinkProfile:
        """The link."""
        return parse_hop(self.task.link)

    def image_at(self, now: float) -> np.ndarray:
        """What the first camera saw at `now` (s)."""
        source = self.judged_camera or self.cameras[0]
        return np.asarray(source.image(min(int(np.searchsorted(source.times_ns, round(now * 1e9))), len(source) - 1)))

    def picture_at(self, name: str, now: float) -> np.ndarray | None:
        """The newest picture of the first camera that the receiver of codec `name` has at `now` (s)."""
        run, camera, stream = self.runs[name], self.cameras[0], self.streams.get(name)
        if name == "semhier":
            arrived = first_arrivals([one for one in run.blocks if one[0] == 0 and one[3] <= now])
            prefixes = {key[1]: next(n for n in count() if n not in came) for key, came in arrived.items()}
            shown = max((one for one, had in prefixes.items() if had > self.reader.semantic_blocks), default=None)
            if shown is None:
                return None
            blocks = self.reader.blocks(camera, shown)[: prefixes[shown]]
            *_, last = read_blocks(self.reader.codec, blocks, camera.size)
            return last.picture()
        if not isinstance(stream, PictureStream):
            return None
        numbers = [item.number for item in run.answers if item.camera == 0 and item.arrival <= now]
        return decode_picture(stream.file(camera, max(numbers)), camera.size) if numbers else None


def replay(task: Task, tell: Tell | None = None, reader: Reader | None = None) -> Result:
    """Runs every codec of `task` over the same footage and link, in virtual time.

    Raises BagError, FootageError, StreamError, LabelError or ValueError, each saying what to change.
    """
    often = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *often[1:])
    try:
        return _replay(task, tell or (lambda stage, share: None), reader)
    finally:
        gc.set_threshold(*often)


def _replay(task: Task, tell: Tell, reader: Reader | None) -> Result:
    codecs, link = check_codecs(task.codecs), parse_hop(task.link)
    reader = reader or Reader.load(task.model, task.device, Store(task.cache))
    tell("reading the bag", 0.0)
    cameras, problems = open_cameras(task, reader)
    if task.ground is not None:
        lens_of(cameras[0], task.lens)  # before the work, not after it
    worlds = labelled(task, cameras, reader, problems)
    result = Result(
        task, cameras, reader, task.costs or reader.measured_costs(cameras[0]), problems=problems, worlds=worlds
    )
    for name in sorted(codecs, key=lambda one: one != "semhier"):  # pictures are cheapest right after a frame's meaning
        stage = f"{name}: its setting"
        result.streams[name] = make_stream(name, task, reader, result.costs, cameras, partial(tell, stage))
        stage = f"{name} over the link"
        result.runs[name] = run_virtual(
            result.streams[name],
            cameras,
            link,
            result.task.budget,
            progress=partial(tell, stage),
        )
        encode_all(reader, cameras, tell)
    result.runs = {name: result.runs[name] for name in codecs}
    judge(result, tell)
    return result


def open_cameras(task: Task, reader: Reader) -> tuple[list[Any], list[str]]:
    """The cameras of all bags, and what is wrong with those."""
    cameras: list[Any] = []
    problems: list[str] = []
    for bag in task.bags:
        remember = reader.store.made
        found, wrong = open_footage(bag, task.topics, seconds=task.seconds, rate=task.frame_rate, remember=remember)
        cameras += found
        problems += wrong
    for number, camera in enumerate(distinct(cameras), 2):
        camera.name = f"{camera.name}_{number}"
    return cameras, problems


def labelled(task: Task, cameras: Sequence[Any], reader: Reader, problems: list[str]) -> list[World]:
    """The truth of each camera by the task's labels, none where it has no labels; what was left out of them goes to
    `problems`. For before the work: labels that cannot be used are no news for after it. Raises LabelError."""
    if task.labels is None:
        return []
    notes = Notes()
    worlds = labelled_worlds(task.labels, cameras, reader.codec.taxonomy, notes)
    problems += notes.lines()
    return worlds


def largest_datagram(codec: str, rate: float) -> int:
    """Wire bytes of the largest datagram that a sender may make with that budget: what it may be ahead of it."""
    if codec not in BLOCKS:
        return ZENOH_UDP.wire_bytes(LARGEST_PAYLOAD)
    wire = measured(ZENOH_UDP)  # envelopes
    return wire.wire_bytes(Scheduler(Packet.pack, split, default_policies(1, 1), wire=wire, rate=rate).packet_limit)


def judge(result: Result, tell: Tell) -> None:
    """Scores the runs of `result` against its worlds, or where it has none by agreement, and writes its summary."""
    reader, cameras = result.reader, result.cameras
    encode_all(reader, cameras, tell)
    if not result.worlds:
        judged = [result.judged_camera] if result.judged_camera is not None else cameras
        encode_all(reader, judged, tell)
        result.worlds = [reader.world(camera) for camera in judged]
    result.scores = Scores(result.worlds, reader.levels, result.link.seed, reader.codec.whole_image)
    for name, run in result.runs.items():
        result.scores.add(name, run.answers)
        if name not in result.uses:
            paced = [(item.time, item.wire_bytes) for item in run.sent if item.purpose not in UNPACED]
            result.uses[name] = budget_use(paced, result.task.budget, largest_datagram(name, result.task.budget))
    if result.task.forecast:
        tell("foretelling", 0.0)
        for name, run in result.runs.items():
            told = foretell(run, result.worlds, result.cameras, reader.codec.taxonomy)
            result.scores.add(forecast_of(name), told)
    result.scores.add("no link", at_once(reader, cameras), drawn=False)
    if reader.store.problem:
        result.problems.append(reader.store.problem)
    result.summary = summary_of(result)


def encode_all(reader: Reader, cameras: Sequence[Any], tell: Tell) -> None:
    """Encodes and reads every frame once, so that what follows finds it made."""
    frames = [(camera, number) for camera in cameras for number in range(len(camera))]
    for done, frame in enumerate(frames, 1):
        reader.encoded(*frame)
        if done % 8 == 0:
            tell("encoding the frames", done / len(frames))


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
    """summary.json. `measure` is the key of the streaming precision: `streaming_ap50`, or for models of whole images
    `streaming_accuracy`."""
    task, reader, scores = result.task, result.reader, result.scores
    names = list(result.runs)
    kind = result.worlds[0].kind
    measure = "streaming_accuracy" if reader.codec.whole_image else "streaming_ap50"
    codecs = {}
    for name, run in result.runs.items():
        figures = figures_of(run, result.worlds, result.cameras, reader.codec.taxonomy, result.uses[name])
        codecs[name] = {measure: scores.precision(name), f"{measure}_ci95": scores.intervals(name), **figures}
        if task.forecast:
            told = forecast_of(name)
            codecs[name]["forecast"] = {
                measure: scores.precision(told),
                f"{measure}_ci95": scores.intervals(told),
                "margin_of_forecast": scores.margin(told, name),
            }
    margins = {name: scores.margin("semhier", name) for name in names if name != "semhier" and "semhier" in result.runs}
    return {
        "link": task.link,
        "budget_bytes_per_s": round(result.task.budget, 1),
        "engine": result.engine,
        "bags": [str(bag.name) for bag in task.bags] or [camera.topic for camera in result.cameras],
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
        "measure": measure,
        "instants": sum(len(world.instants) for world in result.worlds),
        "costs_ms": result.costs.as_ms(),
        "costs": "given" if task.costs else "measured on this machine",
        "level_names": list(reader.codec.taxonomy.level_names),
        f"ceiling_{measure.removeprefix('streaming_')}": scores.precision("no link"),
        "codecs": codecs,
        "margin_of_semhier": margins,
        "problems": result.problems,
        **({"checks": result.checks} if result.checks else {}),
    }


def ceiling_of(summary: dict[str, Any]) -> dict[str, float | None]:
    """What no link at all would give, per level, of a summary."""
    found: dict[str, float | None] = summary[f"ceiling_{summary['measure'].removeprefix('streaming_')}"]
    return found


def best_rival(summary: dict[str, Any], level: str) -> str | None:
    """The best at `level` of the codecs that ours is compared with; None where it, or they, were not run."""
    values = {name: one[summary["measure"]][level] or 0.0 for name, one in summary["codecs"].items()}
    found = [name for name in RIVALS if name in values and "semhier" in values]
    return max(found, key=lambda name: values[name], default=None)


TRUTH = {
    "labels": "Accuracy: readings are scored against labels.",
    "agreement": "Agreement, not accuracy: there are no labels, so readings are scored against what the same network "
    "reads on the uncompressed frame of that instant. It says how much of what the network knows survives the link, "
    "not how good the network is.",
}
