"""The level topics as a link: one publisher, or one subscription, per block, each with its own quality of service.

Semantic blocks are small and worth resending, so by default their topics are reliable; at depth 2 DDS resends only
what is still of use. Picture blocks are best effort at depth 1. Every topic's lifespan is its block's: old data never
arrives in a burst. No deadline is offered: a camera's rate is its own affair, and the diagnostics show silence as age.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rclpy._rclpy_pybind11 import RCLError
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from semhier_ros.link.schedule.policy import LevelPolicy
from semhier_ros.link.transport import Datagram
from semhier_ros.msg import SemanticBlock
from semhier_ros.nodes.conversions import block_message

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For descriptions: a late joiner gets the last one."""


def block_topic(camera: str, name: str) -> str:
    """The topic of one block, relative to the node's namespace."""
    return f"{camera}/semhier/{name}"


def is_reliable(index: int, semantic_blocks: int, choice: str) -> bool:
    """Whether block `index`'s topic is reliable under the parameter `link.ros.reliable`."""
    return index < {"none": 0, "coarse": 1, "semantic": semantic_blocks, "all": 16}[choice]


def writer_qos(policy: LevelPolicy, reliable: bool, picture: bool) -> QoSProfile:
    """What the encoder offers on a block's topic."""
    return QoSProfile(
        depth=1 if picture else 2,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        lifespan=Duration(seconds=policy.lifespan),
    )


class RosTransport:
    """Sends each datagram of the scheduler (one block each) on its block's topic.

    A publisher that refuses (a saturated reliable writer raises RCLError) costs that block and the finer ones of its
    frame, which no receiver could read anyway.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        names: Sequence[str],
        semantic_blocks: int,
        policies: Sequence[LevelPolicy],
        reliable: str,
    ) -> None:
        self._node = node
        self._publishers = [
            node.create_publisher(
                SemanticBlock,
                block_topic(camera, name),
                writer_qos(policies[index], is_reliable(index, semantic_blocks, reliable), index >= semantic_blocks),
            )
            for index, name in enumerate(names)
        ]
        self._lock = threading.Lock()
        self._closed = False
        self._lost_frame: int | None = None
        self._counters = {"sent": 0, "refused": 0, "useless": 0}

    def send(self, datagram: Datagram) -> bool:
        """Publishes one block; False when it was dropped (and counted)."""
        with self._lock:
            if self._closed:
                return False
            if datagram.level > 0 and datagram.frame == self._lost_frame:
                self._counters["useless"] += 1
                return False
            try:
                message = block_message(datagram.stamp_ns, datagram.frame, datagram.payload)
                self._publishers[datagram.level].publish(message)
            except RCLError:
                self._counters["refused"] += 1
                self._lost_frame = datagram.frame
                return False
            self._counters["sent"] += 1
            return True

    @property
    def connected(self) -> bool:
        """Whether anybody subscribes to the coarsest block as it is offered."""
        with self._lock:
            return not self._closed and self._publishers[0].get_subscription_count() > 0

    def close(self) -> None:
        """Ends the topics; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for publisher in self._publishers:
                    self._node.destroy_publisher(publisher)

    @property
    def counters(self) -> Mapping[str, int]:
        """`sent` blocks, `refused` ones (by DDS), `useless` ones (finer than a refused one of their frame)."""
        return dict(self._counters)


def reader_qos(reliable: bool, picture: bool) -> QoSProfile:
    """What the decoder asks of a block's topic; a reliable reader is served by reliable writers only."""
    return QoSProfile(
        depth=5 if picture else 10,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


def block_readers(models: Iterable[tuple[Sequence[str], int]], choice: str) -> dict[str, QoSProfile]:
    """What a decoder asks of the block topics of all its models, by the blocks' names.

    models: of each the names of its blocks and how many of them are semantic. A name that several models have is read
    reliably where all of them offer that under the parameter `link.ros.reliable`: any of them may be what sends.
    """
    found: dict[str, tuple[bool, bool]] = {}
    for names, semantic_blocks in models:
        for index, name in enumerate(names):
            reliable, picture = found.get(name, (True, True))
            reliable = reliable and is_reliable(index, semantic_blocks, choice)
            found[name] = reliable, picture and index >= semantic_blocks
    return {name: reader_qos(reliable, picture) for name, (reliable, picture) in found.items()}


def subscribe_blocks(
    node: Node, camera: str, readers: Mapping[str, QoSProfile], receive: Callable[[str, SemanticBlock], None]
) -> list[Any]:
    """One subscription per block topic of `camera`, as `block_readers` says; `receive(camera, message)` gets what
    arrives."""
    return [
        node.create_subscription(SemanticBlock, block_topic(camera, name), partial(receive, camera), qos)
        for name, qos in readers.items()
    ]
