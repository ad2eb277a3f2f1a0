"""Encoder and decoder agree bit for bit, whatever runtime, precision or number of threads made the floats."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from street import street_frames

from semhier_ros import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.scene.layout import SceneCode
from semhier_ros.scene.objects import code_objects, code_picture, find_objects

GOLDEN = Path(__file__).parent / "golden_road.json"


def code_of(codec: Codec, image: np.ndarray) -> SceneCode:
    """What the encoder quantised a picture to, before any byte was made."""
    model, backend = codec.model.folder, codec.model.backend
    canvas = Canvas(*model.canvas, source=(image.shape[1], image.shape[0])).place(image)
    rows, columns = model.stream.picture_shape()
    smaller = Canvas(columns * PATCH_SIDE, rows * PATCH_SIDE, source=(image.shape[1], image.shape[0])).place(image)
    objects = find_objects(backend.detect(canvas), model.threshold, model.stream.layout.max_objects)
    code = code_objects(model.stream, model.projection, objects, codec.semantic_blocks)
    code_picture(model.stream, backend.analyse(smaller), code, len(model.stream.layout.picture_groups))
    return code


def decode(stream, blocks: list[bytes]) -> SceneCode:
    code = None
    for index, data in enumerate(blocks):
        code = stream.decode(index, data, code)
    return code


def assert_same(first: SceneCode, second: SceneCode) -> None:
    for name in ("cells", "sizes", "offsets", "scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name in ("kept", "path", "latents", "picture"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            one, other = (part.latents if name == "picture" else part for part in (one, other))
            np.testing.assert_array_equal(one, other)


def test_bf16_on_two_threads_decodes_to_its_very_symbols(codec):
    fast = Codec.load("road", "cpu", threads=2, precision="bf16")
    stream = fast.model.stream
    for image in street_frames()[::4]:
        code = code_of(fast, image)
        blocks = [stream.encode(index, code) for index in range(len(fast.block_names))]
        assert_same(decode(codec.model.stream, blocks), code)
        assert_same(decode(stream, blocks), code)


@pytest.mark.torch
def test_torch_and_openvino_read_the_same(codec):
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    torch_codec = Codec.load("road", "torch")
    for image in street_frames()[::10]:
        size = (image.shape[1], image.shape[0])
        for encoder, reader in ((codec, torch_codec), (torch_codec, codec)):
            blocks = encoder.encode(image)
            code = code_of(encoder, image)
            assert_same(decode(reader.model.stream, [block.data for block in blocks]), code)
            ours, theirs = encoder.decoder(size), reader.decoder(size)
            for block in blocks:
                assert ours.push(block) == theirs.push(block)
            difference = np.abs(ours.picture(0).astype(int) - theirs.picture(0))
            assert difference.mean() < 0.5
            assert difference.max() <= 12
        found, other = (make.encode(image, blocks=3) for make in (codec, torch_codec))
        first, second = codec.decoder(size), codec.decoder(size)
        readings = [[decoder.push(block) for block in made][-1] for decoder, made in ((first, found), (second, other))]
        assert abs(len(readings[0].detections) - len(readings[1].detections)) <= 1


def fixed_code(stream) -> SceneCode:
    """A scene made of whole numbers alone."""
    layout = stream.layout
    draw = np.random.default_rng(7)
    count = 9
    cells = np.sort(draw.choice(layout.cells, count, replace=False)).astype(np.int32)
    sizes = draw.integers(5, 20, (count, 2)).astype(np.int32)
    offsets = draw.integers(4, 13, (count, 2)).astype(np.int32)
    scores = draw.integers(0, len(layout.score_edges) + 1, count).astype(np.int32)
    leaves = draw.integers(0, len(layout.parents[-1]), count)
    path = [leaves.astype(np.int32)]
    for parents in reversed(layout.parents):
        path.insert(0, np.asarray(parents, np.int32)[path[0]])
    code = SceneCode(cells, sizes, offsets, scores, path=path)
    for block in range(1, stream.semantic_blocks):
        code.kept.append(np.ones(count, bool))
        means, _ = stream.latent_parameters(block, code)
        code.latents.append((means + 16 * draw.integers(-2, 3, means.shape)).astype(np.int32))

    def tell(phase, means, rows):
        return stream.pictures.half + draw.integers(-1, 2, means.shape) * (draw.random(means.shape) < 0.03)

    for group in range(len(layout.picture_groups)):
        before = code.picture[-1].latents if code.picture else None
        code.picture.append(stream.pictures.walk(group, before, stream.picture_shape(), tell))
    return code


def test_golden_blocks(codec):
    """Fixed symbols give exactly these bytes, and these bytes exactly those symbols. SEMHIER_WRITE_GOLDEN=1 writes
    the file anew: right only together with a new stream hash."""
    stream = codec.model.stream
    code = fixed_code(stream)
    blocks = [stream.encode(index, code) for index in range(len(codec.block_names))]
    if os.environ.get("SEMHIER_WRITE_GOLDEN"):
        text = {"stream_hash": codec.stream_hash, "blocks": [data.hex() for data in blocks]}
        GOLDEN.write_text(json.dumps(text, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert golden["stream_hash"] == codec.stream_hash
    assert [data.hex() for data in blocks] == golden["blocks"]
    assert_same(decode(stream, [bytes.fromhex(data) for data in golden["blocks"]]), code)


def test_same_bytes_every_time(codec):
    image = street_frames()[0]
    assert codec.encode(image) == codec.encode(image)
