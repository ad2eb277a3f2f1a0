"""A part of a bag: messages byte for byte, with the message definitions of the source where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semhier_ros.lab.bag import BagError, message_store, whole_bag
from semhier_ros.lab.replay.bag_out import vision_types
from semhier_ros.lab.replay.footage import bag_files
from semhier_ros.lab.replay.mcap_file import BagDamage, Channel, McapFile
from semhier_ros.lab.replay.sqlite_file import SqliteFile


def cut_bag(source: Path, out: Path, begin: float, seconds: float, topics: Sequence[str]) -> tuple[int, list[str]]:
    """Writes the messages of `source` from `begin` s after its first on, for `seconds`, to a new MCAP bag.

    Topics of types that neither ROS 2 nor this package knows are left out and named. Returns (messages, what is worth
    saying). Raises BagError.
    """
    if begin < 0 or not seconds > 0:
        raise BagError(f"cut: from {begin:g} s for {seconds:g} s, from 0 on for more than 0 expected")
    store = message_store()
    vision_types(store)
    asked = {"/" + topic.strip("/") for topic in topics}
    problems: list[str] = []
    unknown: set[str] = set()

    def wants(channel: Channel) -> bool:
        if asked and channel.topic not in asked:
            return False
        if channel.kind not in store.fielddefs:
            unknown.add(f"{channel.topic} ({channel.kind}): a type that is not known here, left out")
            return False
        return channel.encoding == "cdr"

    start: int | None = None
    count = 0
    with whole_bag(out) as writer:
        connections: dict[str, Any] = {}
        for path in bag_files(source):
            try:
                file = SqliteFile(path) if path.suffix == ".db3" else McapFile(path)
            except BagDamage as error:
                problems.append(str(error))
                continue
            for channel, time, _, data in file.messages(wants):
                start = time if start is None else start
                if not begin <= (time - start) / 1e9 < begin + seconds:
                    continue
                if channel.topic not in connections:
                    connections[channel.topic] = writer.add_connection(channel.topic, channel.kind, typestore=store)
                writer.write(connections[channel.topic], time, data)
                count += 1
            problems += file.problems
            file.close()
        if not count:
            raise BagError(f"{source}: no message from {begin:g} s on for {seconds:g} s")
    return count, [*problems, *sorted(unknown)]
