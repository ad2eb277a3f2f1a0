"""Codec room: what turns a frame into blocks and blocks into bytes.

Importing this package costs little: packets, stream infos, requests, reports and envelopes are pure Python. Entropy
coding (numpy) and the model itself are imported from their own modules by those who need them.
"""

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.envelope import Envelope, EnvelopeError
from semhier_ros.codec.packet import Block, Packet, PacketError, PieceAssembler, restore_stamp, split
from semhier_ros.codec.report import ClockNote, Report, ReportError
from semhier_ros.codec.stream_info import StreamInfo

__all__ = [
    "Block",
    "BlockRequest",
    "ClockNote",
    "Envelope",
    "EnvelopeError",
    "Packet",
    "PacketError",
    "PieceAssembler",
    "Report",
    "ReportError",
    "StreamInfo",
    "restore_stamp",
    "split",
]
