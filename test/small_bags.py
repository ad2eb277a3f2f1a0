"""Bags that hold topics and next to nothing else."""

from __future__ import annotations

from pathlib import Path

RAW, JPEG, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))


def bag_of(folder: Path, *topics: tuple[str, str]) -> Path:
    """A bag with one message on each of the topics, given with its type."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics:
            writer.write(writer.add_connection(topic, kind, typestore=store), 1, bytes(64))
    return folder
