"""Codecs as *frame streams over a link*: camera frames in, datagrams out; datagrams in, readings of frames out.

`base.py` says what a stream is; `semhier`, `answer`, `jpeg`, `webp` and `h264` are its five kinds. Every clock is the
caller's, so the same code runs in virtual time (`semhier_ros.lab.replay`) and over real sockets.
"""

from semhier_ros.lab.streams.base import Answer, Camera, Costs, Departure, FrameStream, Receiver, Sender
from semhier_ros.lab.streams.registry import CODECS, StreamError, make_stream
from semhier_ros.lab.streams.store import Store

__all__ = [
    "CODECS",
    "Answer",
    "Camera",
    "Costs",
    "Departure",
    "FrameStream",
    "Receiver",
    "Sender",
    "Store",
    "StreamError",
    "make_stream",
]
