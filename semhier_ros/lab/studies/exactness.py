"""Whether what one arithmetic encodes another decodes to the very same symbols, over many pictures.

A process with two threads encodes in bf16, another with one thread decodes in float32: networks, NumPy and OpenVINO
alike. Compared is every symbol of every block (names, latents, boxes, picture latents) with what the encoder quantised.
Encoding again in float32 on one thread (--again, every n-th picture) tells how often the two arithmetics choose other
symbols in the first place: without such pictures the test would prove little. `--backend rounded` does what processors
with bf16 do, in PyTorch: operands of every layer rounded to bf16, sums in float32. OpenVINO's bf16 is real only where
the CPU has it (`bf16_in_hardware`).

`--drawn N` compares two other things: the picture blocks of N frames, decoded one frame at a time by NumPy, and many
together by `--device`, in batches of any size. The frames are mixtures, at random, of the latents of pictures of the
street video, so that there can be any number of them; every tenth has a block whose end is cut off.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError
from semhier_ros.codec.picture_blocks import PATCH_SIDE, CodedPicture, PictureBlocks
from semhier_ros.codec.picture_walk import NUMPY
from semhier_ros.footage.bags import open_footage
from semhier_ros.footage.video import default_video, picture_files, read_picture, read_video
from semhier_ros.lab.options import finish, load_codec
from semhier_ros.lab.results import processor
from semhier_ros.lab.workers import Workers
from semhier_ros.loading import DEVICES

ENCODE_THREADS, DECODE_THREADS = 2, 1
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BATCH = 25
LARGEST_BATCH = 24
"""Of drawn frames that are decoded together."""
BACKENDS = ("openvino", "rounded")


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels (HxWx3 uint8 RGB) of each picture that is asked for."""
    if options.images:
        for path in picture_files(options.images)[options.start : options.start + options.limit]:
            yield path.name, read_picture(path)
        return
    cameras = [camera for path in options.video for camera in open_footage(path)[0]]
    frames = ((camera, number) for camera in cameras for number in range(len(camera)))
    for camera, number in islice(frames, options.start, options.start + options.limit):
        yield f"{camera.topic}:{number}", camera.image(number)


class Arithmetic:
    """The codec of a process, in an arithmetic of its own."""

    def __init__(self, model: str, backend: str, threads: int, precision: str) -> None:
        cv2.setNumThreads(threads)
        if backend == "openvino":
            self._codec = Codec.load(model, "cpu", threads=threads, precision=precision)
            return
        import torch

        torch.set_num_threads(threads)
        self._codec = Codec.load(model, "torch")
        round_layers(self._codec.model.backend)  # type: ignore[attr-defined]

    def ready(self) -> bool:
        """Whether the process has begun."""
        return True

    def encode(self, images: Sequence[np.ndarray]) -> list[tuple[Any, list[bytes]]]:
        """What each picture is quantised to, and its blocks."""
        return [self._encode(image) for image in images]

    def _encode(self, image: np.ndarray) -> tuple[Any, list[bytes]]:
        """The encoder's own code, caught on its way into the entropy coder, with the blocks."""
        model: Any = self._codec.model
        caught: list[Any] = []
        real = type(model.stream).encode

        def encode_and_keep(index: int, code: Any) -> bytes:
            caught.append(code)
            data: bytes = real(model.stream, index, code)
            return data

        model.stream.encode = encode_and_keep
        try:
            blocks = [block.data for block in self._codec.encode(image)]
        finally:
            del model.stream.encode
        return symbols(caught[-1]), blocks

    def decode(self, found: Sequence[tuple[list[np.ndarray], list[bytes]]]) -> list[tuple[int, int]]:
        """Per picture: symbols compared, and those that differ."""
        model: Any = self._codec.model
        results = []
        for sent, blocks in found:
            code = None
            for index, data in enumerate(blocks):
                code = model.decode(index, data, code)
            results.append(differences(sent, symbols(code)))
        return results


def round_layers(backend: Any) -> None:
    """Makes a torch backend compute as processors with bf16 do: operands and results of its layers lose low bits."""
    from torch import nn

    for graph in backend._graphs.values():
        for layer in graph.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                layer.weight.data = layer.weight.data.bfloat16().float()
                layer.register_forward_pre_hook(lambda _, inputs: tuple(part.bfloat16().float() for part in inputs))
                layer.register_forward_hook(lambda _, inputs, output: output.bfloat16().float())


def symbols(code: Any) -> list[np.ndarray]:
    """Every array of whole numbers in a code, in the order of its fields."""
    return [array for item in fields(code) if item.compare for array in _arrays(getattr(code, item.name))]


def _arrays(value: Any) -> list[np.ndarray]:
    """All arrays of a field: one, a list of them, or a list of records of them, as picture groups are."""
    if not isinstance(value, list | tuple) or not any(isinstance(part, list | tuple | np.ndarray) for part in value):
        return [np.asarray(value)]
    return [array for part in value for array in _arrays(part)]


def differences(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[int, int]:
    """(symbols, those that differ); an array that is missing or of another shape differs as a whole."""
    compared = different = 0
    for one, other in zip_longest(first, second, fillvalue=np.zeros(0)):
        size = max(one.size, other.size)
        compared += size
        different += size if one.shape != other.shape else int((one != other).sum())
    return compared, different


def process(threads: int, *arguments: Any) -> Workers:
    """A process of its own, with an `Arithmetic`, whose libraries have so many threads."""
    os.environ |= dict.fromkeys(LIBRARIES, str(threads))
    workers = Workers(1, 1, Arithmetic, *arguments, keep_cores=False)
    next(workers.map("ready", [()]))  # it begins now, while the environment says so
    return workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    shared.option(source, "--drawn", shared.whole(1, 10**9), None, "frames made of pictures of the street video", "N")
    source.add_argument("--images", type=Path, help="folder of pictures")
    source.add_argument("--video", type=Path, nargs="+", help="videos or bags, every frame")
    shared.model(parser, "imagenet")
    parser.add_argument("--backend", choices=BACKENDS, default="openvino", help="of the encoder (default: %(default)s)")
    parser.add_argument("--start", type=shared.whole(0, 10**9), default=0, help="how many pictures to skip")
    shared.option(parser, "--limit", shared.whole(1, 10**9), 1000, "how many to use")
    parser.add_argument("--again", type=int, default=10, help="encode every n-th in float32 on one thread too; 0: none")
    parser.add_argument("--device", choices=DEVICES, default="torch", help="what decodes drawn frames (%(default)s)")
    shared.common(parser, shared.seed, shared.json)


class Mixtures:
    """Latents of frames that nobody saw: of two pictures of the video, shifted, scaled, with noise."""

    def __init__(self, codec: Codec, seed: int) -> None:
        model: Any = codec.model
        self._draw = np.random.default_rng(seed)
        columns, rows = model.view_size
        if not codec.whole_image:
            rows, columns = (PATCH_SIDE * side for side in model.stream.picture_shape())
        self._known = [
            model.backend.analyse(np.ascontiguousarray(cv2.resize(frame.image, (columns, rows)), np.uint8))
            for frame in islice(read_video(default_video()), 0, 240, 8)
        ]

    def next(self) -> np.ndarray:
        """The latents (channels,h,w) of one more."""
        draw = self._draw
        one, other = (self._known[int(place)] for place in draw.integers(0, len(self._known), 2))
        other = np.roll(other, draw.integers(-5, 6, 2), axis=(1, 2))
        share, scale = draw.random(), draw.uniform(0.5, 1.5)
        noise = draw.normal(0, draw.uniform(0.05, 0.6), one.shape)
        return np.asarray(scale * (share * one + (1 - share) * other) + noise, np.float32)


def drawn(codec: Codec, other: Codec, frames: int, seed: int) -> Counter[str]:
    """Picture blocks of so many drawn frames, decoded by both codecs; symbols, rows and latents that differ."""
    draw = np.random.default_rng(seed + 1)
    mixtures = Mixtures(codec, seed)
    totals: Counter[str] = Counter()
    model: Any = codec.model
    device: Any = other.model
    pictures = model.stream.pictures
    shape = model.stream.layout.grid if codec.whole_image else model.stream.picture_shape()
    while totals["frames"] < frames:
        size = min(int(draw.integers(1, LARGEST_BATCH + 1)), frames - totals["frames"])
        coded: list[list[CodedPicture]] = [[] for _ in range(size)]
        for own in coded:
            pictures.quantise_all(mixtures.next(), own, len(pictures.groups))
        for group in range(len(pictures.groups)):
            data = [_block(pictures, own[group]) for own in coded]
            for place in range(0, size, 10):
                data[place] = data[place][: int(draw.integers(0, len(data[place]) + 1))]
            before = [own[group - 1].latents if group else None for own in coded]
            many = device.stream.pictures.get_many(
                [BlockDecoder(one) for one in data], group, before, shape, device.backend.arithmetic
            )
            for place, (one, found) in enumerate(zip(data, many, strict=True)):
                totals["blocks"] += 1
                try:
                    (alone,) = pictures.get_many([BlockDecoder(one)], group, [before[place]], shape, NUMPY)
                    if isinstance(alone, BlockError):
                        raise alone
                except BlockError as error:
                    totals["refused"] += 1
                    totals["refused_otherwise"] += str(error) != str(found)
                    continue
                compared, different = _compare(alone, found)
                if place % 10:
                    more = _compare(coded[place][group], found)
                    compared, different = compared + more[0], different + more[1]
                totals["numbers"] += compared
                totals["numbers_that_differ"] += different
                totals["symbols"] += sum(len(part) for part in alone.symbols)
        totals["frames"] += size
        totals["batches"] += 1
    totals["refused_otherwise"] += 0
    return totals


def _block(pictures: PictureBlocks, coded: CodedPicture) -> bytes:
    encoder = BlockEncoder()
    pictures.put(encoder, coded)
    return encoder.finish()


def _compare(one: CodedPicture, other: CodedPicture | BlockError) -> tuple[int, int]:
    """Numbers of a decoded block (symbols, rows, latents), and those that differ."""
    parts = [[] if isinstance(each, BlockError) else [*each.symbols, *each.rows, each.latents] for each in (one, other)]
    return differences(*parts)


def run_drawn(options: argparse.Namespace) -> int:
    """One frame at a time by NumPy against many together by another device."""
    began = time.monotonic()
    codec, other = load_codec(options.model), load_codec(options.model, options.device)
    result = {
        "model": codec.name,
        "stream_hash": codec.stream_hash,
        "device": other.device,
        "seed": options.seed,
        **drawn(codec, other, options.drawn, options.seed),
        "seconds": round(time.monotonic() - began),
    }
    return finish(result, options.json)


def run(options: argparse.Namespace) -> int:
    """Encodes in one process, decodes in another, compares."""
    if options.drawn:
        return run_drawn(options)
    began = time.monotonic()
    totals: Counter[str] = Counter()
    failed: list[str] = []
    encoder = process(ENCODE_THREADS, options.model, options.backend, ENCODE_THREADS, "bf16")
    decoder = process(DECODE_THREADS, options.model, "openvino", DECODE_THREADS, "f32")
    with encoder, decoder:
        asked = pictures(options)
        while batch := list(islice(asked, BATCH)):
            names, images = [name for name, _ in batch], [image for _, image in batch]
            (found,) = encoder.map("encode", [(images,)])
            (compared_each,) = decoder.map("decode", [(found,)])
            for name, (compared, different) in zip(names, compared_each, strict=True):
                totals["pictures"] += 1
                totals["identical"] += not different
                totals["symbols"] += compared
                totals["symbols_that_differ"] += different
                if different:
                    failed.append(name)
            totals["bytes"] += sum(len(data) for _, blocks in found for data in blocks)
            if options.again:
                some = slice(-(totals["pictures"] - len(images)) % options.again, None, options.again)
                (again,) = decoder.map("encode", [(images[some],)])
                for (own, _), (ours, _) in zip(again, found[some], strict=True):
                    totals["encoded_again"] += 1
                    totals["chosen_otherwise_in_float32"] += differences(own, ours)[1] > 0
    codec = Codec.load(options.model, "cpu", threads=1)
    result = {
        "model": codec.name,
        "model_hash": codec.model_hash,
        "stream_hash": codec.stream_hash,
        "encoder": {"threads": ENCODE_THREADS, "precision": "bf16", "backend": options.backend},
        "decoder": {"threads": DECODE_THREADS, "precision": "f32", "backend": "openvino"},
        "bf16_in_hardware": "bf16" in processor(),
        "from": [path.name for path in options.video or [options.images]],
        "start": options.start,
        **totals,
        "failed": failed[:20],
        "seconds": round(time.monotonic() - began),
    }
    return finish(result, options.json, "exactness")
