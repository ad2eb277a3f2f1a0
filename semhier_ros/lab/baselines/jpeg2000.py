"""JPEG 2000 by Pillow (OpenJPEG), in quality layers, cut after any byte.

A real receiver reads packet after packet as they come and stops where the bytes end. OpenJPEG refuses files that stop
early, so the cut file is closed for it: the whole packets that arrived, then one zero byte for every packet that did
not (an empty packet), with the tile's length put right. Packet lengths come from a PLT marker, which is not counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from semhier_ros.lab.baselines.pillow_codecs import load, save
from semhier_ros.lab.baselines.still import CutTooShort, Picture, StillCodec

START_OF_TILE, PACKET_LENGTHS, START_OF_DATA, END = b"\xff\x90", 0xFF58, 0xFF93, b"\xff\xd9"


@dataclass(frozen=True)
class _Tile:
    """The one tile of a file: bytes before its data (PLT left out), where its packets start, and their lengths."""

    before: bytes
    data: int
    packets: list[int]


class Jpeg2000(StillCodec):
    """Raw codestream, 9/7 wavelet, layers from 1/1000 to 1/16 of the raw picture. quality: not used (0)."""

    name = "jpeg2000"
    qualities = (0,)
    progressive = True
    header = "main header, tile header and end: both sides of a deployment agree on them"
    layers = tuple(1000 / 1.35**step for step in range(14))

    def encode(self, picture: Picture, quality: float) -> bytes:
        resolutions = max(1, min(6, min(picture.shape[:2]).bit_length() - 3))
        return save(
            picture,
            "JPEG2000",
            no_jp2=True,
            irreversible=True,
            mct=1,
            quality_mode="rates",
            quality_layers=list(self.layers),
            progression="LRCP",
            num_resolutions=resolutions,
            plt=True,
        )

    def cut(self, data: bytes, length: int) -> bytes:
        """What a file without packet lengths is after `length` bytes: whole packets, and the rest empty."""
        tile = _read_tile(data)
        left = length - len(tile.before)
        arrived = 0
        for size in tile.packets:
            if size > left:
                break
            arrived, left = arrived + 1, left - size
        if arrived == 0:
            return tile.before[:length]
        packets = data[tile.data : tile.data + sum(tile.packets[:arrived])]
        return _CutFile(tile.before + packets, len(tile.packets) - arrived)

    def decode(self, data: bytes) -> Picture:
        if not isinstance(data, _CutFile):
            if not data.endswith(END):
                raise CutTooShort(f"{len(data)} bytes end before the first packet of a JPEG 2000 file")
            return load(data)
        start = data.find(START_OF_TILE)
        whole = bytearray(data + bytes(data.missing))
        struct.pack_into(">I", whole, start + 6, len(whole) - start)
        return load(bytes(whole) + END)

    def header_bytes(self, data: bytes) -> int:
        if START_OF_TILE not in data:
            return len(data)
        ends = 2 if data.endswith(END) else 0
        tile = _read_tile(data)
        return tile.data + ends if tile.packets else len(tile.before) + ends


class _CutFile(bytes):
    """The bytes that arrived of a file, and how many packets did not."""

    missing: int

    def __new__(cls, data: bytes, missing: int) -> _CutFile:
        new = super().__new__(cls, data)
        new.missing = missing
        return new


def _read_tile(data: bytes) -> _Tile:
    """The tile of a single-tile codestream.

    Raises:
        ValueError: `data` is none.
    """
    start = data.find(START_OF_TILE)
    if start < 0:
        raise ValueError(f"{len(data)} bytes: not a JPEG 2000 codestream")
    at = start + 12
    before, packets, value = data[:at], [], 0
    while (marker := struct.unpack_from(">H", data, at)[0]) != START_OF_DATA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker == PACKET_LENGTHS:
            for byte in data[at + 5 : at + 2 + length]:
                value = value << 7 | byte & 127
                if not byte & 128:
                    packets.append(value)
                    value = 0
        else:
            before += data[at : at + 2 + length]
        at += 2 + length
    return _Tile(before + data[at : at + 2], at + 2, packets)
