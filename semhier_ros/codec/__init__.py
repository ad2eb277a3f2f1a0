"""Codec room: what turns a frame into blocks and blocks into bytes.

Importing this package costs little: packets and stream infos are pure Python. Entropy coding (numpy, constriction) and
the model itself are imported from their own modules by those who need them.
"""

from semhier_ros.codec.packet import Block, Packet, PacketError, PieceAssembler, restore_stamp, split
from semhier_ros.codec.stream_info import StreamInfo

__all__ = ["Block", "Packet", "PacketError", "PieceAssembler", "StreamInfo", "restore_stamp", "split"]
