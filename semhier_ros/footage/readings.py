"""Readings, blocks and what surrounds them as messages of a bag: the way back from `recording`.

Topics and messages are those of the live nodes, plus `<camera>/annotated/compressed` and `<camera>/annotations`, which
Foxglove shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from semhier_ros.camera.drawing import colour_of, draw_boxes
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.footage.messages import compressed_image, header_of, make_message, time_of
from semhier_ros.footage.video import at_most

ANNOTATED_WIDTH = 640
CLEAR = dict.fromkeys("rgba", 0.0)
WHITE = dict.fromkeys("rgba", 1.0)


class Messages:
    """Makes messages of readings for one bag's type store."""

    def __init__(self, store: Any, taxonomy: Any) -> None:
        self.store = store
        self._make = partial(make_message, store)
        sizes = [len(level) for level in taxonomy.levels]
        self._firsts = [sum(sizes[:level]) for level in range(len(sizes))]

    def reading(self, reading: Reading, level: int, stamp_ns: int, frame_id: str, wait_ns: int) -> Any:
        """SemanticDetectionArray of a reading cut at `level`."""
        detections = [
            {
                **dict(zip(("x_min", "y_min", "x_max", "y_max"), one.box, strict=True)),
                "id": one.id,
                "path": one.path[: level + 1],
                "names": list(one.names[: level + 1]),
                "scores": one.scores[: level + 1],
                "other_nodes": [node for node, _ in one.others_at(level)],
                "other_scores": [score for _, score in one.others_at(level)],
            }
            for one in reading.detections
        ]
        return self._make(
            "semhier_ros/msg/SemanticDetectionArray",
            header=header_of(stamp_ns, frame_id),
            frame=reading.frame,
            level=level,
            prefix=reading.prefix,
            bytes_received=reading.payload_bytes,
            latency=time_of(wait_ns),
            detections=detections,
        )

    def vision(self, detections: Sequence[Detection], stamp_ns: int, frame_id: str) -> Any:
        """vision_msgs/Detection2DArray: each object's finest node known, then what else it may be, as in label_info."""
        header = header_of(stamp_ns, frame_id)
        found = []
        for one in detections:
            level = len(one.path) - 1
            named = [(one.path[-1], one.scores[-1]), *one.others_at(level)]
            x0, y0, x1, y1 = one.box
            found.append(
                {
                    "header": header,
                    "results": [
                        {
                            "hypothesis": {"class_id": str(self._firsts[level] + node), "score": float(score)},
                            "pose": {"pose": {"orientation": {"w": 1.0}}},
                        }
                        for node, score in named
                    ],
                    "bbox": {
                        "center": {"position": {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2}},
                        "size_x": x1 - x0,
                        "size_y": y1 - y0,
                    },
                    "id": str(one.id),
                }
            )
        return self._make("vision_msgs/msg/Detection2DArray", header=header, detections=found)

    def annotations(self, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """foxglove_msgs/ImageAnnotations: a box and a name an object, in the source picture's pixels."""
        stamp, points, texts = time_of(stamp_ns), [], []
        for one in detections:
            colour = dict(zip("rgba", (*(value / 255 for value in colour_of(one)), 1.0), strict=True))
            x0, y0, x1, y1 = map(float, one.box)
            corners = [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
            points.append(
                {
                    "timestamp": stamp,
                    "type": 2,
                    "points": corners,
                    "outline_color": colour,
                    "fill_color": CLEAR,
                    "thickness": 2.0,
                }
            )
            texts.append(
                {
                    "timestamp": stamp,
                    "position": corners[0],
                    "text": f"{one.names[-1]} {one.scores[-1]:.2f}",
                    "font_size": 12.0,
                    "text_color": WHITE,
                    "background_color": colour,
                }
            )
        return self._make("foxglove_msgs/msg/ImageAnnotations", points=points, texts=texts)

    def info(self, codec: Any, camera: Any, stamp_ns: int) -> Any:
        """StreamInfo of a camera."""
        return self._make(
            "semhier_ros/msg/StreamInfo",
            stamp=time_of(stamp_ns),
            camera=camera.name,
            frame_id=camera.frame_id,
            width=camera.size[0],
            height=camera.size[1],
            model=codec.name,
            stream_hash=codec.stream_hash,
            model_hash=codec.model_hash,
        )

    def block(self, block: Block, stamp_ns: int) -> Any:
        """SemanticBlock of one block of a frame."""
        data = np.frombuffer(Packet.pack([block]), np.uint8)
        return self._make("semhier_ros/msg/SemanticBlock", stamp=time_of(stamp_ns), frame=block.frame, data=data)

    def status(self, time_ns: int, values: dict[str, Any]) -> Any:
        """LinkStatus with these fields; those that a virtual run knows nothing of are empty."""
        return self._make("semhier_ros/msg/LinkStatus", stamp=time_of(time_ns), **values)

    def picture(self, image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/CompressedImage (JPEG) of an RGB picture."""
        return compressed_image(self.store, image, stamp_ns, frame_id, "jpeg", 80)

    def annotated(self, camera: Any, number: int, detections: Sequence[Detection], stamp_ns: int) -> Any:
        """The camera's picture, at most 640 pixels wide, with what was read on it."""
        small = at_most(camera.image(number), ANNOTATED_WIDTH)
        drawn = draw_boxes(small, detections, scale=small.shape[1] / camera.size[0])
        return self.picture(drawn, stamp_ns, camera.frame_id)


class Readings:
    """Topics and messages of one camera's readings, as the decoder node publishes them: each level once per frame."""

    def __init__(self, messages: Messages, camera: str, frame_id: str) -> None:
        self._messages, self._camera, self._frame_id = messages, camera, frame_id
        self._done: dict[tuple[int, int], int] = {}

    def of(self, reading: Reading, stamp_ns: int, wait_ns: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        """(topic, maker of the message) of a reading, `wait_ns` after its frame's stamp."""
        first = self._done.get((reading.frame, stamp_ns), -1) + 1
        self._done[reading.frame, stamp_ns] = max(first - 1, reading.level)
        base, make, frame_id = f"/{self._camera}", self._messages, self._frame_id
        for level in range(min(first, reading.level), reading.level + 1):
            made = partial(make.reading, reading, level, stamp_ns, frame_id, wait_ns)
            yield f"{base}/detections/level_{level}", made
        yield f"{base}/detections/vision", partial(make.vision, reading.detections, stamp_ns, frame_id)
        yield f"{base}/annotations", partial(make.annotations, reading.detections, stamp_ns)
