"""Milliseconds from a block's arrival to each planner topic's message, on one core.

    python tools/planner_latency.py [--objects 20] [--frames 200]

One process holds the decoder's end of a camera and its planner outputs, with a subscriber to each topic, since nothing
is made that nobody hears. Every frame has so many objects; its first block is decoded, read, placed and published, and
each topic is timed from the moment at which the block comes in to that at which its message has been handed to DDS.
Topics whose message packages are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import semhier_ros.nodes  # noqa: F401 (first of all: it says how many threads numpy may use)

# isort: split
import numpy as np
import rclpy
from rclpy.parameter import Parameter

from semhier_ros import Codec
from semhier_ros.camera.decoder_end import DecoderEnd
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.packet import Block
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.nodes.managed import ManagedNode
from semhier_ros.nodes.parameter_tables import DECODER
from semhier_ros.nodes.planner_outputs import PlannerOutputs
from semhier_ros.nodes.planner_parameters import PLANNER_TOPICS
from semhier_ros.scene.layout import SceneCode, quantise_boxes

SIZE = (640, 480)


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


def main() -> int:
    """Measures, and prints a table or, with --json, figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--topics", default=",".join(PLANNER_TOPICS), help="measured together, between commas")
    parser.add_argument("--cpu", action="store_true", help="processor time of the thread, for a machine that is busy")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    wanted = [name for name in options.topics.split(",") if name]
    values = {"planner.topics": wanted, "ground.mount": "fixed", "planner.least_score": 0.0, "ground.max_range": 80.0}
    node = ManagedNode(
        "decoder_node", DECODER, parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    planner = PlannerOutputs(node, levels=3, lasting=True, zenoh=True)
    listener = rclpy.create_node("listener")
    taken: dict[str, list[float]] = defaultdict(list)
    begun = 0.0
    clock = time.thread_time if options.cpu else time.perf_counter
    for publisher in planner.publishers("camera").values():
        listener.create_subscription(publisher.msg_type, publisher.topic_name, lambda _: None, 10)

    def timed(view: Any, name: str, message: Any) -> None:
        view.publishers[name].publish(message)
        taken[name].append(clock() - begun)

    planner.send = timed  # type: ignore[method-assign]
    codec = Codec.load("road", device="cpu", threads=1)
    end = DecoderEnd("camera", {codec.stream_hash: codec}, 16, lambda kind, text: print(kind, text, file=sys.stderr))
    lens = Calibration(*SIZE, (500.0, 500.0, 319.5, 239.5), "plumb_bob", (0.0,) * 5)
    info = StreamInfo("camera", "lens", *SIZE, codec.name, codec.stream_hash, codec.model_hash, 1, lens)
    end.describe(info, 0.0)
    planner.info("camera", info)
    time.sleep(1.0)
    rng = np.random.default_rng(0)
    placed = []
    for frame in range(options.frames + 20):
        block = Block(codec.stream_tag, frame, 0, first_block(codec, options.objects, rng))
        begun = clock()
        for output in end.block(block, time.time_ns(), 0.0):
            placed.append(len(output.reading.detections))
            planner.reading("camera", codec, output.reading, output.stamp_ns, output.frame_id)
        time.sleep(0.005)
    figures = {}
    print(f"{options.objects} objects a frame ({np.mean(placed):.1f} read), {options.frames} frames, one core")
    print("| topic | median, ms | 95 %, ms |\n|---|---|---|")
    for name, times in taken.items():
        last = np.array(times[-options.frames * (options.objects if name == "polygons" else 1) :]) * 1000
        figures[name] = {"median": float(np.median(last)), "p95": float(np.quantile(last, 0.95))}
        print(f"| {name} | {figures[name]['median']:.2f} | {figures[name]['p95']:.2f} |")
    if options.json is not None:
        options.json.write_text(json.dumps({"objects": options.objects, "milliseconds": figures}, indent=1) + "\n")
    planner.close()
    node.destroy_node()
    listener.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
