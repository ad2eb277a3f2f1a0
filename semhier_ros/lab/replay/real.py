"""The real engine of a replay: camera, encoder, thin link, decoder and recorder as processes, over real datagrams.

`semhier demo` calls `drive_camera` for its run; what the recorder wrote down becomes a `Run`, so that
measures and report are those of virtual time. One camera; semhier, and JPEG with the setting that the search in virtual
time finds best.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semhier_ros.command import CommandError
from semhier_ros.lab.replay.work import BUDGET_SHARE, Result, Task, summary_of
from semhier_ros.lab.streams.base import Answer
from semhier_ros.lab.streams.virtual import Run, Sent
from semhier_ros.link.emulate.profile import LinkProfile

REAL_CODECS = ("semhier", "jpeg")
CAMERA = "camera"


def replay_real(task: Task, out: Path, report: bool = True) -> int:
    """Runs `task` for real and writes summary.json and report.html to `out`. Raises CommandError."""
    from semhier_ros.lab.interrupts import stop_signals
    from semhier_ros.lab.processes import ChildError
    from semhier_ros.lab.replay.cli import lines_of, write_summary

    began = time.monotonic()
    try:
        with stop_signals():
            result = run_real(task, out)
    except ChildError as error:
        print(f"semhier replay: {error}", file=sys.stderr)
        return 1
    write_summary(result.summary, out / "summary.json")
    if report:
        from semhier_ros.lab.report.replay_page import write_report

        write_report(result, out / "report.html", time.monotonic() - began)
    print("\n".join(lines_of(result.summary)))
    return 0


def run_real(task: Task, out: Path) -> Result:
    """Plays the footage through real processes. Raises CommandError, BagError or ChildError."""
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError("--engine real runs real ROS 2 nodes and rclpy is not installed here: run `make` in a clone")
    others = [name for name in task.codecs if name not in REAL_CODECS]
    if others:
        raise CommandError(f"--engine real sends {' and '.join(REAL_CODECS)}, not {', '.join(others)}: name --codecs")
    from semhier_ros.lab.baselines.search import reference_world
    from semhier_ros.lab.footage.bags import open_footage
    from semhier_ros.lab.footage.labels import labelled_world
    from semhier_ros.lab.replay.costs import measured
    from semhier_ros.lab.replay.measures import Scores
    from semhier_ros.lab.replay.reader import Reader
    from semhier_ros.lab.replay.store import Store
    from semhier_ros.lab.replay.work import at_once, encode_all
    from semhier_ros.link.emulate.profile import parse_link

    link = parse_link(task.link)
    if not link.rate_bps:
        raise CommandError("--link: the real engine wants a link with a rate, as in 64kbit,50ms,5%")
    cameras, problems = open_footage(task.bags[0], task.topics, seconds=task.seconds, rate=task.frame_rate)
    if len(cameras) != 1 or len(task.bags) != 1:
        raise CommandError(f"--engine real plays one camera, found {len(cameras)}: name one with --topics")
    camera = cameras[0]
    out.mkdir(parents=True, exist_ok=True)
    bag = out / "street"
    copy_for_player(camera, bag)
    reader = Reader.load(task.model, task.device, Store(task.cache))
    runs: dict[str, Run] = {}
    if "semhier" in task.codecs:
        runs["semhier"] = _semhier(task, link, reader, camera, bag, out)
    encode_all(reader, cameras, lambda stage, share: None)
    costs = task.costs or measured(reader, cameras)
    if "jpeg" in task.codecs:
        runs["jpeg"] = _jpeg(task, link, reader, costs, camera, bag, out)
    worlds = [
        labelled_world(task.labels, camera, reader.codec.taxonomy) if task.labels else reference_world(reader, camera)
    ]
    scores = Scores(worlds, reader.levels, link.seed)
    for name, run in runs.items():
        scores.add(name, run)
    scores.add_answers("no link", at_once(reader, cameras), drawn=False)
    rate = link.rate_bps / 8 * BUDGET_SHARE
    result = Result(task, link, rate, cameras, worlds, reader, costs, runs, scores, problems)
    result.summary = {**summary_of(result), "engine": "real"}
    reader.store.close()
    return result


def copy_for_player(camera: Any, bag: Path) -> None:
    """A bag of the camera as the player wants it: `/camera/image_raw/compressed`, JPEG of high quality, run times."""
    from semhier_ros.lab.footage.messages import DEFAULT_START_NS, BagWriter, camera_messages

    with BagWriter(bag, force=True) as writer:
        for number, time_ns in enumerate(camera.times_ns):
            image = camera.image(number)
            stamp = DEFAULT_START_NS + time_ns
            for topic, message in camera_messages(writer.store, image, stamp, CAMERA, "camera_optical_frame"):
                writer.write(topic, message, stamp)


def topics_of(codec: Any, pictures: bool = False) -> list[str]:
    """What the recorder writes down, as `<topic> <type>`; with `pictures` those that the decoder paints too."""
    array, block = "semhier_ros/msg/SemanticDetectionArray", "semhier_ros/msg/SemanticBlock"
    topics = [f"{CAMERA}/detections/level_{level} {array}" for level in range(codec.levels)]
    topics += [f"{CAMERA}/semhier/{name} {block}" for name in codec.block_names]
    topics += [f"{CAMERA}/picture sensor_msgs/msg/Image"] if pictures else []
    return [
        *topics,
        f"{CAMERA}/semhier/info semhier_ros/msg/StreamInfo",
        f"{CAMERA}/semhier/link_status semhier_ros/msg/LinkStatus",
        f"{CAMERA}/image_raw/compressed sensor_msgs/msg/CompressedImage",
    ]


def drive_camera(
    bag: Path,
    out: Path,
    link: LinkProfile,
    codec: Any,
    *,
    model: str,
    device: str,
    threads: int = 1,
    pictures: bool = False,
    tell: Callable[[float], None] = lambda share: None,
) -> Any:
    """Plays a bag of the camera `camera` through the processes of both ends and the link into `out`/recording.

    Returns what the link saw (drive.Wire). Raises ChildError.
    """
    from rosbags.highlevel import AnyReader

    from semhier_ros.lab.drive import drive_semhier

    with AnyReader([bag]) as reader:
        seconds = reader.duration / 1e9
    return drive_semhier(
        bag,
        out,
        link,
        model=model,
        device=device,
        threads=threads,
        seconds=seconds,
        topics=topics_of(codec, pictures),
        tell=tell,
    )


def _semhier(task: Task, link: Any, reader: Any, camera: Any, bag: Path, out: Path) -> Run:
    from semhier_ros.lab.analysis import camera_frames
    from semhier_ros.lab.footage.recording import read_recording

    drive_camera(bag, out, link, reader.codec, model=task.model, device=task.device)
    recording = read_recording(out / "recording")
    frames = camera_frames(bag, recording)
    numbers = {stamp: number for number, stamp in enumerate(frames.stamps)}
    run = Run("semhier", f"{reader.codec.name}, real nodes over Zenoh", [len(camera)])
    names = list(reader.block_names)
    for item in recording.readings:
        number = numbers.get(item.stamp_ns)
        if number is None:
            continue
        ready = (item.arrival_ns - item.stamp_ns + camera.times_ns[number]) / 1e9
        index = min(item.prefix, len(names) - 1)
        run.answers.append(
            Answer(
                0,
                number,
                camera.times_ns[number],
                ready,
                ready,
                item.level,
                item.prefix,
                item.detections,
                names[index],
            )
        )
    for block in recording.blocks:
        number = numbers.get(block.stamp_ns)
        if number is not None and block.name in names:
            late = (block.arrival_ns - block.stamp_ns + camera.times_ns[number]) / 1e9
            run.blocks.append((0, number, names.index(block.name), late))
    run.sent, run.link = _sent(out / "logs" / "link.json")
    run.seconds = camera.times_ns[-1] / 1e9
    return run


def _jpeg(task: Task, link: Any, reader: Any, costs: Any, camera: Any, bag: Path, out: Path) -> Run:
    from semhier_ros.lab.baselines.jpeg_stream import JpegSetting
    from semhier_ros.lab.baselines.pictures import PictureStream, decode_picture
    from semhier_ros.lab.baselines.registry import make_stream
    from semhier_ros.lab.drive import drive_jpeg

    rate = link.rate_bps / 8 * BUDGET_SHARE
    stream = make_stream("jpeg", reader, costs, [camera], link, rate, finalists=task.finalists)
    assert isinstance(stream, PictureStream)
    how = stream.how
    setting = JpegSetting(how.scale, how.quality, how.max_rate, how.parity)
    drive = drive_jpeg(bag, out, link, setting, seconds=camera.times_ns[-1] / 1e9, tell=lambda share: None)
    run = Run("jpeg", str(setting), [len(camera)])
    last = reader.levels - 1
    for item in drive.arrivals:
        arrival = (item.arrival_ns - item.stamp_ns + camera.times_ns[item.number]) / 1e9
        picture = decode_picture(item.data, camera.size)
        found = () if picture is None else reader.detect(picture, camera.size)
        stamp = camera.times_ns[item.number]
        ready = arrival + costs.unpack + costs.detect
        run.answers.append(Answer(0, item.number, stamp, arrival, ready, last, last, found, "picture"))
    run.sent, run.link = _sent(out / "logs" / "jpeg-link.json")
    run.seconds = camera.times_ns[-1] / 1e9
    return run


def _sent(path: Path) -> tuple[list[Sent], dict[str, int]]:
    """What the emulator saw on its way to the receiver, and its counts."""
    log = json.loads(path.read_text(encoding="utf-8"))
    entries: Sequence[Sequence[Any]] = [entry for entry in log["datagrams"] if entry[0] == "up"]
    zero = entries[0][1] if entries else 0.0
    sent = [Sent(entry[1] - zero, 0, 0, entry[3], "datagram", False, entry[4]) for entry in entries]
    return sent, {
        "datagrams": len(sent),
        "bytes": sum(item.wire_bytes for item in sent),
        "lost": sum(item.cause == "loss" for item in sent),
        "dropped at the full queue": sum(item.cause == "queue" for item in sent),
        "lost in outages": sum(item.cause == "outage" for item in sent),
    }
