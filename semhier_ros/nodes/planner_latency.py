"""Milliseconds from a block's arrival to each planner topic's message, on one core, for `semhier measure planners`.

    python -m semhier_ros.nodes.planner_latency [--objects 20] [--frames 200] [--topics …]

One process, bound to one core, holds a decoder node as it is, and a subscription to each of its planner topics, since
nothing is made that nobody hears. Every frame has so many objects. Its first block is handed to the node as the
executor would; the node's worker decodes, reads, places and publishes it, and each topic is timed from the block's
coming to when its message has been handed to DDS; so is when the block was read, and when its objects were placed,
which every topic waits for. Topics whose message packages are not installed are left out. One
line of JSON says the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import defaultdict
from typing import Any

import semhier_ros.nodes  # noqa: F401 (first of all: it says how many threads numpy may use)

# isort: split
import numpy as np
import rclpy
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from semhier_ros.api import Codec
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.nodes.conversions import block_message
from semhier_ros.nodes.decoder_node import DecoderNode
from semhier_ros.nodes.planner_messages import camera_info_message
from semhier_ros.nodes.planner_parameters import PLANNER_TOPICS
from semhier_ros.scene.layout import SceneCode, quantise_boxes

SIZE = (640, 480)
LENS = Calibration(*SIZE, (500.0, 500.0, 319.5, 239.5), "plumb_bob", (0.0,) * 5)
WARM_UP, PAUSE, PATIENCE = 20, 0.005, 5.0


def first_block(codec: Any, objects: int, rng: np.random.Generator) -> bytes:
    """Block 0 of a frame with vehicles on the ground before a camera 1.2 m high."""
    layout = codec.model.stream.layout
    scale = min(codec.model.view_size[0] / SIZE[0], codec.model.view_size[1] / SIZE[1])
    distance = rng.uniform(6, 40, objects)
    foot, tall = 240 + 600 / distance, 750 / distance
    boxes = np.stack([rng.uniform(60, 580, objects), foot - tall / 2, tall * 1.2, tall], axis=1) * scale / layout.stride
    cells = np.floor(boxes[:, 1]).astype(int) * layout.columns + np.floor(boxes[:, 0]).astype(int)
    cells, rows = np.unique(cells, return_index=True)
    sizes, offsets = quantise_boxes(layout, cells.astype(np.int32), boxes[rows].astype(np.float32))
    scores = np.full(len(cells), len(layout.score_edges), np.int32)
    code = SceneCode(cells.astype(np.int32), sizes, offsets, scores, path=[np.zeros(len(cells), np.int32)])
    return bytes(codec.model.stream.encode(0, code))


class TimedDecoder(DecoderNode):
    """A decoder node that says when each planner message has left.

    processor: by the time that its worker spent on the processor since the reading before, instead of the wall's.
    """

    def __init__(self, values: dict[str, Any], *, processor: bool) -> None:
        super().__init__(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.objects: list[int] = []
        self._now = time.thread_time if processor else time.perf_counter
        self._done = threading.Event()
        self._begun = 0.0

    def configure(self) -> None:
        super().configure()
        planner: Any = self._planner
        send, reading, place = planner.send, planner.reading, planner._place

        def timed(view: Any, name: str, message: Any) -> None:
            send(view, name, message)
            self.taken[name].append(self._now() - self._begun)

        def counted(camera: str, codec: Any, told: Any, *rest: Any) -> None:
            self.steps["decoded and read"].append(self._now() - self._begun)
            self.objects.append(len(told.detections))
            reading(camera, codec, told, *rest)

        def placed(*given: Any) -> Any:
            found = place(*given)
            self.steps["placed"].append(self._now() - self._begun)
            return found

        planner.send, planner.reading, planner._place = timed, counted, placed

    def _publish_reading(self, camera: str, output: Any) -> None:
        super()._publish_reading(camera, output)
        if self._now is time.thread_time:
            self._begun = self._now()
        self._done.set()

    def describe(self, info: StreamInfo) -> None:
        """Takes a stream's description."""
        self._take_info(info.camera, info)

    def take_calibration(self) -> None:
        """Hears the CameraInfo of LENS."""
        assert self._planner is not None
        self._planner.surroundings.camera_info("camera", camera_info_message(LENS, Header(frame_id="lens")))

    def listen_to_all(self, listener: Any) -> None:
        """Lets `listener` subscribe to every planner topic."""
        assert self._planner is not None
        for publisher in self._planner.publishers("camera").values():
            listener.create_subscription(publisher.msg_type, publisher.topic_name, lambda _: None, 10)

    def take(self, block: Block) -> None:
        """Hands a block over as the executor would, and waits until all about it is published."""
        message = block_message(time.time_ns(), block.frame, Packet.pack([block]))
        self._done.clear()
        if self._now is time.perf_counter:
            self._begun = self._now()
        self._on_block("camera", message)
        if not self._done.wait(PATIENCE):
            raise RuntimeError(f"frame {block.frame} was not read within {PATIENCE:g} s")


def measure(
    model: str, objects: int, frames: int, topics: list[str], *, follow: bool, processor: bool
) -> dict[str, Any]:
    """Figures of one run; rclpy is initialised."""
    values = {
        "models": [model],
        "device": "cpu",
        "threads": 1,
        "follow": follow,
        "planner.topics": topics,
        "planner.least_score": 0.0,
        "ground.mount": "fixed",
        "ground.max_range": 80.0,
    }
    node = TimedDecoder(values, processor=processor)
    if not node.start():
        raise RuntimeError("the decoder node did not start")
    codec = Codec.load(model, device="cpu", threads=1)
    listener = rclpy.create_node("planner_latency_listener")
    node.listen_to_all(listener)
    node.describe(StreamInfo("camera", "lens", *SIZE, codec.name, codec.stream_hash, codec.model_hash, 1, LENS))
    node.take_calibration()
    time.sleep(1.0)
    rng = np.random.default_rng(0)
    for frame in range(frames + WARM_UP):
        if frame == WARM_UP:
            node.taken.clear()
            node.steps.clear()
        node.take(Block(codec.stream_tag, frame, 0, first_block(codec, objects, rng)))
        time.sleep(PAUSE)
    node.stop()
    node.destroy_node()
    listener.destroy_node()
    figures = {"objects": float(np.mean(node.objects)), "frames": frames}
    return figures | {"steps": _summary(node.steps), "milliseconds": _summary(node.taken)}


def _summary(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and 95 % of times in seconds, by name, in milliseconds."""
    spent = {name: np.array(times) * 1000 for name, times in taken.items()}
    return {
        name: {"median": float(np.median(times)), "p95": float(np.quantile(times, 0.95))}
        for name, times in spent.items()
    }


def main() -> int:
    """Entry point; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="road", help="model that decodes (%(default)s)")
    parser.add_argument("--objects", type=int, default=20, help="in a frame (%(default)s)")
    parser.add_argument("--frames", type=int, default=200, help="that are timed (%(default)s)")
    parser.add_argument("--topics", default=",".join(PLANNER_TOPICS), help="measured together, between commas")
    parser.add_argument("--alone", action="store_true", help="each topic in a run of its own as well")
    parser.add_argument("--follow", action="store_true", help="with the parameter `follow`")
    parser.add_argument("--processor", action="store_true", help="time on the processor, for a machine that is busy")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    topics = [name for name in options.topics.split(",") if name]
    given = {"follow": options.follow, "processor": options.processor}
    figures: dict[str, Any] = measure(options.model, options.objects, options.frames, topics, **given)
    if options.alone:
        figures["alone"] = {}
        for topic in topics:
            one = measure(options.model, options.objects, options.frames, [topic], **given)
            figures["alone"] |= one["steps"] | one["milliseconds"]
    rclpy.try_shutdown()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
