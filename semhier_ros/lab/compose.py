"""Puts the parts of a demo run together into what the report shows."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semhier_ros.codec.packet import Block
from semhier_ros.codec.reading import Detection
from semhier_ros.lab import analysis
from semhier_ros.lab.analysis import CameraFrames, Judge, Pictures
from semhier_ros.lab.drive import BUDGET_SHARE, JpegDrive, Wire
from semhier_ros.lab.footage.recording import Recording
from semhier_ros.lab.jpeg_search import Search
from semhier_ros.lab.report.content import BlockFigures, BlockKind, JpegFigures, ReportContent, block_kinds
from semhier_ros.lab.report.words import IMAGE, SCENE, Words
from semhier_ros.lab.scoring.agreement import Measure, Received, streaming_precision
from semhier_ros.lab.scoring.delivery import Delivered, delivered, percentile

if TYPE_CHECKING:
    from semhier_ros.api import Codec


@dataclass(slots=True)
class Reference:
    """What the run is judged by.

    `made`: stamp of each camera frame -> (its blocks, encoded once more here; its reading without a link).
    `instants`: (ns within the clip, reading of the uncompressed frame); the clip repeats every `loop_ns`. `cost_ns`:
    median time of the detector on one picture, on this machine.
    """

    recording: Recording
    frames: CameraFrames
    made: dict[int, tuple[Sequence[Block], tuple[Detection, ...]]]
    instants: list[tuple[int, tuple[Detection, ...]]]
    loop_ns: int
    cost_ns: int

    def world(self, zero_ns: int, length_ns: int) -> list[tuple[int, tuple[Detection, ...]]]:
        """The reference at every instant of a run that began at `zero_ns` (wall clock)."""
        world = []
        for turn in range(length_ns // self.loop_ns + 1):
            for time_ns, truth in self.instants:
                now = turn * self.loop_ns + time_ns
                if now <= length_ns:
                    world.append((zero_ns + now, truth))
        return world


@dataclass(slots=True)
class Parts:
    """All that was planned, run and found."""

    plan: Any
    codec: Codec
    judge: Judge
    measure: Measure
    reference: Reference
    wire: Wire
    search: Search | None
    jpeg: JpegDrive | None

    @property
    def words(self) -> Words:
        """What a report calls things that this kind of model deals with."""
        return IMAGE if self.codec.whole_image else SCENE


def compose(parts: Parts) -> ReportContent:
    """The report's content."""
    plan, codec, reference = parts.plan, parts.codec, parts.reference
    recording, frames = reference.recording, reference.frames
    names = tuple(codec.block_names)
    levels = len(codec.taxonomy.levels)
    kinds = block_kinds(names, codec.semantic_blocks, level_titles(codec))
    rows = analysis.timeline(recording, frames, kinds)
    arrived = {
        kind.name: {
            stamp: stamp + round(row.arrivals[kind.name] * 1e6)
            for stamp, row in zip(frames.stamps, rows, strict=True)
            if kind.name in row.arrivals
        }
        for kind in kinds
    }
    blocks = tuple(_block_figures(kind, index, parts, arrived[kind.name]) for index, kind in enumerate(kinds))
    height, width = frames.images[0].shape[:2]
    pictures = Pictures(codec, recording, width, height)
    strip = analysis.strip(recording, frames, kinds, pictures, reference.loop_ns)
    readings = analysis.received_of(recording.readings)
    length = frames.bag_times[-1]
    world = reference.world(frames.zero_ns, length)
    precision = streaming_precision(readings, world, levels, parts.measure)
    at_once = [Received(stamp, stamp, levels - 1, found) for stamp, (_, found) in reference.made.items()]
    jpeg = None
    seen: list[Received] = []
    if parts.jpeg is not None and parts.search is not None:
        seen = analysis.received_jpeg(parts.jpeg, frames.images, parts.judge, levels - 1, reference.cost_ns)
        jpeg = _jpeg_figures(parts, seen, levels)
    drive = parts.jpeg
    shown = analysis.moments(
        plan.footage.telling([frame.seconds for frame in strip], length / 1e9),
        _footage_at(parts),
        (readings, frames.zero_ns, pictures, levels - 1),
        (seen, drive.stamps[0] - frames.bag_times[0], drive) if drive is not None else None,
    )
    same, compared = analysis.identical_blocks(
        recording, {stamp: made for stamp, (made, _) in reference.made.items()}, names
    )
    sizes = [[len(block.data) for block in made] for made, _ in reference.made.values()]
    picture_arrivals = _first_pictures(recording, frames, kinds, arrived)
    return ReportContent(
        link=plan.link_words,
        rate=plan.link.rate_bps / 8,
        loss=plan.link.loss,
        footage=plan.footage.source,
        frames_sent=len(frames.stamps),
        frames_per_second=plan.fps,
        level_names=tuple(kind.title for kind in kinds[:levels]),
        blocks=blocks,
        levels=tuple(delivered(frames.stamps, recording.first_readings(level)) for level in range(levels)),
        pictures=picture_arrivals,
        semantic_bytes=float(np.mean([sum(row[: codec.semantic_blocks]) for row in sizes])),
        frame_bytes=_received_bytes(recording, len(frames.stamps)),
        wire=parts.wire.use,
        datagrams=parts.wire.datagrams,
        precision=tuple(precision),
        ceiling=tuple(streaming_precision(at_once, world, levels, parts.measure)),
        strip=strip,
        moments=shown,
        timeline=rows,
        jpeg=jpeg,
        facts=_facts(parts, width, height, same, compared),
        notes=_notes(parts),
        words=parts.words,
        node_names=tuple(tuple(codec.taxonomy.names(level)) for level in range(levels)),
    )


def level_titles(codec: Codec) -> list[str]:
    """What people call the levels: the name of the only node of a level, else the level's own name."""
    titles = []
    for name, nodes in zip(codec.taxonomy.level_names, codec.taxonomy.levels, strict=True):
        titles.append(f"any {nodes[0].name}" if len(nodes) == 1 else name)
    return titles


def _block_figures(kind: BlockKind, index: int, parts: Parts, arrived: dict[int, int]) -> BlockFigures:
    made = [blocks for blocks, _ in parts.reference.made.values()]
    sizes = [float(len(blocks[index].data)) for blocks in made if index < len(blocks)]
    link = parts.reference.recording.link
    return BlockFigures(
        kind,
        len(sizes),
        link.sent.get(kind.name) if link else None,
        delivered(parts.reference.frames.stamps, arrived),
        float(np.mean(sizes)) if sizes else 0.0,
        percentile(sizes, 0.95) or 0.0,
    )


def _first_pictures(
    recording: Recording, frames: CameraFrames, kinds: Sequence[BlockKind], arrived: dict[str, dict[int, int]]
) -> Delivered:
    """Frames with a picture made from picture blocks: the first that the decoder published after such a block
    arrived."""
    first = next((kind.name for kind in kinds if kind.picture), None)
    shown: dict[int, int] = {}
    for stamp, arrival in sorted(recording.pictures, key=lambda item: item[1]):
        if first and arrival >= arrived[first].get(stamp, arrival + 1):
            shown.setdefault(stamp, arrival)
    return delivered(frames.stamps, shown)


def _received_bytes(recording: Recording, frames: int) -> float:
    most: dict[int, int] = {}
    for reading in recording.readings:
        most[reading.stamp_ns] = max(most.get(reading.stamp_ns, 0), reading.bytes_received)
    return sum(most.values()) / max(frames, 1)


def _jpeg_figures(parts: Parts, seen: Sequence[Received], levels: int) -> JpegFigures:
    drive, search, frames = parts.jpeg, parts.search, parts.reference.frames
    assert drive is not None
    assert search is not None
    arrivals = {item.stamp_ns: item.arrival_ns for item in drive.arrivals}
    zero = drive.stamps[0] - frames.bag_times[0]
    precision = streaming_precision(seen, parts.reference.world(zero, frames.bag_times[-1]), levels, parts.measure)
    setting = search.best.setting
    height, width = frames.images[0].shape[:2]
    sizes = [size for _, _, size in drive.begun]
    judge = parts.words.judge
    searched = (
        f"Best of {search.considered} settings (sizes x qualities x most pictures a second, each with and without one "
        f"parity piece a picture): all were sent in virtual time over the same link with the same budget, and the "
        f"{len(search.tried)} most promising judged by the {judge} on every picture that came through. The winner, "
        f"{setting}, was then sent for real. Its sender always takes the newest camera frame, never queues, and fills "
        f"datagrams of 1,200 bytes. The receiver runs the very {judge} that semhier's encoder runs; the "
        f"{parts.reference.cost_ns / 1e6:.0f} ms that it takes there count for JPEG's answers, not for its "
        f"pictures."
    )
    tried = sorted(search.tried, key=lambda item: -(item.score or 0.0))
    return JpegFigures(
        setting=str(setting),
        searched=searched,
        size=(round(width * setting.scale), round(height * setting.scale)),
        begun=len(drive.begun),
        pictures=delivered(drive.stamps, arrivals),
        mean_bytes=float(np.mean(sizes)) if sizes else 0.0,
        wire=drive.wire.use,
        precision=tuple(precision),
        delays_ms=tuple((item.arrival_ns - item.stamp_ns) / 1e6 for item in drive.arrivals),
        detector_ms=parts.reference.cost_ns / 1e6,
        tried=tuple((str(item.setting), item.mean_bytes, item.score) for item in tried),
    )


def _footage_at(parts: Parts) -> Any:
    def find(seconds: float) -> tuple[np.ndarray, tuple[Detection, ...]]:
        image = parts.plan.footage.at(seconds)
        return image, parts.judge(image)

    return find


def _facts(parts: Parts, width: int, height: int, same: int, compared: int) -> dict[str, str]:
    plan, codec, reference = parts.plan, parts.codec, parts.reference
    frames = reference.frames
    return {
        "footage": f"{plan.footage.source}, {width}x{height}, {len(frames.stamps)} frames at {plan.fps:g} a second",
        "model": f"{codec.name}, stream hash {codec.stream_hash}, model hash {codec.model_hash}",
        "link": (
            f"{plan.link_words} each way, losses of seed {plan.link.seed}, queue of {plan.link.queue_limit} bytes; "
            f"a UDP relay between two Zenoh sessions; senders plan with {BUDGET_SHARE * 100:.0f} % of its rate"
        ),
        "bytes, checked": (
            f"{same} of {compared} blocks that arrived are byte for byte those of a second encoding in another process"
        ),
        "frames heard by the recorder": f"{frames.heard} of {len(frames.stamps)}",
        "machine": machine(),
    }


def _notes(parts: Parts) -> tuple[str, ...]:
    return (
        "All processes ran on this one machine and share its clock. A delay is counted from the moment at which the "
        "camera process published the image to the moment at which the recorder process had the reading; encoding, "
        "the link, decoding and two hops over ROS 2 topics are in it. A frame whose coarse reading never came "
        "counts as not answered.",
        parts.words.note,
        "The budget is kept when no window of any length has more bytes than the link's rate gives it, plus one "
        "datagram, plus one stream description (Zenoh's own messages are in no budget), judged from the second "
        "second on. Times are those at which the kernel took the datagrams.",
        "The picture after each block was decoded here from the very bytes that the recorder wrote down. "
        "The commands of this run: semhier demo, with the options shown by its --help; figures as JSON in "
        "summary.json.",
    )


def machine() -> str:
    """This machine in a few words, for the report."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
