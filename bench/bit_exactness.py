"""Whether what one arithmetic encodes another decodes to the very same symbols, over many pictures. Prints JSON.

    .venv/bin/python bench/bit_exactness.py --images FOLDER [--model imagenet] [--start 0] [--limit 1000]
    .venv/bin/python bench/bit_exactness.py --model road --video FILE_OR_BAG [FILE_OR_BAG ...]

A process with two threads encodes in bf16, another with one thread decodes in float32: networks, NumPy and OpenVINO
alike. Compared is every symbol of every block (names, latents, boxes, picture latents) with what the encoder quantised.
Encoding again in float32 on one thread (--again, every n-th picture) tells how often the two arithmetics choose other
symbols in the first place: without such pictures the test would prove little. `--backend torch` encodes with PyTorch,
whose bf16 is real on every CPU, and slow without AVX-512; `rounded` does what processors with bf16 do, in PyTorch:
operands of every layer rounded to bf16, sums in float32. OpenVINO's is real only where the CPU has it
(`bf16_in_hardware`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
ENCODE_THREADS, DECODE_THREADS = 2, 1
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BATCH = 25
BACKENDS = ("openvino", "torch", "rounded")

_codec: Any = None


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels (HxWx3 uint8 RGB) of each picture that is asked for."""
    if options.images:
        files = sorted(path for path in options.images.iterdir() if path.suffix.lower() in SUFFIXES)
        for path in files[options.start : options.start + options.limit]:
            bgr = cv2.imread(str(path))
            if bgr is None:
                raise SystemExit(f"{path}: no picture, or damaged")
            yield path.name, np.ascontiguousarray(bgr[..., ::-1])
        return
    number = 0
    for path in options.video:
        for place, image in enumerate(_frames(path)):
            if options.start <= number < options.start + options.limit:
                yield f"{path.name}:{place}", image
            number += 1


def _frames(path: Path) -> Iterator[np.ndarray]:
    from semhier_ros.lab.bag import read_frames
    from semhier_ros.lab.footage import read_video

    bag = path.is_dir() or path.suffix in (".mcap", ".db3")
    yield from (frame.image for frame in (read_frames(path) if bag else read_video(path)))


def begin(model: str, backend: str, threads: int, precision: str) -> None:
    """Loads the codec of a process."""
    global _codec
    from semhier_ros import Codec

    cv2.setNumThreads(threads)
    if backend != "openvino":
        import torch

        torch.set_num_threads(threads)
        _codec = Codec.load(model, "torch")
        if backend == "torch":
            _codec.model.backend = Autocast(_codec.model.backend)
        else:
            round_layers(_codec.model.backend)
    else:
        _codec = Codec.load(model, "cpu", threads=threads, precision=precision)


def round_layers(backend: Any) -> None:
    """Makes a torch backend compute as processors with bf16 do: operands and results of its layers lose low bits."""
    from torch import nn

    for graph in backend._graphs.values():
        for layer in graph.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                layer.weight.data = layer.weight.data.bfloat16().float()
                layer.register_forward_pre_hook(lambda _, inputs: tuple(part.bfloat16().float() for part in inputs))
                layer.register_forward_hook(lambda _, inputs, output: output.bfloat16().float())


class Autocast:
    """A torch backend whose networks run in bf16 where PyTorch may."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        import torch

        work = getattr(self._backend, name)
        if not callable(work):
            return work

        def run(*inputs: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return work(*inputs)

        return run


def encode(images: Sequence[np.ndarray]) -> list[tuple[Any, list[bytes]]]:
    """What each picture is quantised to, and its blocks."""
    return [_encode(image) for image in images]


def _encode(image: np.ndarray) -> tuple[Any, list[bytes]]:
    """The encoder's own code, caught on its way into the entropy coder, with the blocks."""
    stream = _codec.model.stream
    caught: list[Any] = []
    real = type(stream).encode

    def encode_and_keep(index: int, code: Any) -> bytes:
        caught.append(code)
        return real(stream, index, code)

    stream.encode = encode_and_keep
    try:
        blocks = [block.data for block in _codec.encode(image)]
    finally:
        del stream.encode
    return symbols(caught[-1]), blocks


def symbols(code: Any) -> dict[str, list[np.ndarray]]:
    """Every array of whole numbers in a code, by field."""
    return {item.name: _arrays(getattr(code, item.name)) for item in fields(code) if item.compare}


def _arrays(value: Any) -> list[np.ndarray]:
    """All arrays of a field: one, a list of them, or a list of records of them, as picture groups are."""
    if not isinstance(value, list | tuple) or not any(isinstance(part, list | tuple | np.ndarray) for part in value):
        return [np.asarray(value)]
    return [array for part in value for array in _arrays(part)]


def decode(found: Sequence[tuple[dict[str, list[np.ndarray]], list[bytes]]]) -> list[tuple[int, int]]:
    """Per picture: symbols compared, and those that differ."""
    results = []
    for sent, blocks in found:
        code = None
        for index, data in enumerate(blocks):
            code = _codec.model.decode(index, data, code)
        results.append(differences(sent, symbols(code)))
    return results


def differences(first: dict[str, list[np.ndarray]], second: dict[str, list[np.ndarray]]) -> tuple[int, int]:
    """(symbols, those that differ); an array that is missing or of another shape differs as a whole."""
    compared = different = 0
    for name in first.keys() | second.keys():
        ours, theirs = first.get(name, []), second.get(name, [])
        for place in range(max(len(ours), len(theirs))):
            one, other = (rows[place] if place < len(rows) else np.zeros(0) for rows in (ours, theirs))
            size = max(one.size, other.size)
            compared += size
            different += size if one.shape != other.shape else int((one != other).sum())
    return compared, different


def process(threads: int, *arguments: Any) -> Any:
    """A process of its own whose libraries have so many threads."""
    for name in LIBRARIES:
        os.environ[name] = str(threads)
    return multiprocessing.get_context("spawn").Pool(1, begin, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="folder of pictures")
    source.add_argument("--video", type=Path, nargs="+", help="videos or bags, every frame")
    parser.add_argument("--model", default="imagenet")
    parser.add_argument(
        "--backend", choices=("openvino", "torch", "rounded"), default="openvino", help="of the encoder"
    )
    parser.add_argument("--start", type=int, default=0, help="how many pictures to skip")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--again", type=int, default=10, help="encode every n-th in float32 on one thread too; 0: none")
    options = parser.parse_args()
    began = time.monotonic()
    totals: Counter[str] = Counter()
    failed: list[str] = []
    encoder = process(ENCODE_THREADS, options.model, options.backend, ENCODE_THREADS, "bf16")
    decoder = process(DECODE_THREADS, options.model, "openvino", DECODE_THREADS, "f32")
    with encoder, decoder:
        for names, images in batches(pictures(options)):
            found = encoder.apply(encode, (images,))
            for name, (compared, different) in zip(names, decoder.apply(decode, (found,)), strict=True):
                totals["pictures"] += 1
                totals["identical"] += not different
                totals["symbols"] += compared
                totals["symbols_that_differ"] += different
                if different:
                    failed.append(name)
            totals["bytes"] += sum(len(data) for _, blocks in found for data in blocks)
            if options.again:
                some = slice(-(totals["pictures"] - len(images)) % options.again, None, options.again)
                for (own, _), (ours, _) in zip(decoder.apply(encode, (images[some],)), found[some], strict=True):
                    totals["encoded_again"] += 1
                    totals["chosen_otherwise_in_float32"] += differences(own, ours)[1] > 0
    from semhier_ros import Codec

    codec = Codec.load(options.model, "cpu", threads=1)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    print(
        json.dumps(
            {
                "model": codec.name,
                "model_hash": codec.model_hash,
                "stream_hash": codec.stream_hash,
                "encoder": {"threads": ENCODE_THREADS, "precision": "bf16", "backend": options.backend},
                "decoder": {"threads": DECODE_THREADS, "precision": "f32", "backend": "openvino"},
                "bf16_in_hardware": "avx512_bf16" in flags or "amx_bf16" in flags,
                "from": [path.name for path in options.video or [options.images]],
                "start": options.start,
                **totals,
                "failed": failed[:20],
                "seconds": round(time.monotonic() - began),
            },
            indent=1,
        )
    )


def batches(found: Iterator[tuple[str, np.ndarray]]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Names and pictures, `BATCH` at a time."""
    names: list[str] = []
    images: list[np.ndarray] = []
    for name, image in found:
        names.append(name)
        images.append(image)
        if len(images) == BATCH:
            yield names, images
            names, images = [], []
    if images:
        yield names, images


if __name__ == "__main__":
    main()
