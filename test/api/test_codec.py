"""The facade: encode, decode, readings, pictures, and what arguments are refused."""

import dataclasses
import sys

import numpy as np
import pytest
from street import street_frame

from semhier_ros import Codec
from semhier_ros.codec import Packet
from semhier_ros.codec.model_folder import ModelError


def decode_all(codec, blocks, size):
    decoder = codec.decoder(size)
    return decoder, [decoder.push(block) for block in blocks]


def test_street_scene_refines_level_by_level(codec):
    image = street_frame()
    size = (image.shape[1], image.shape[0])
    blocks = codec.encode(image, frame=5)
    assert [block.index for block in blocks] == list(range(len(codec.block_names)))
    _, readings = decode_all(codec, blocks, size)
    assert [reading.prefix for reading in readings] == list(range(len(blocks)))
    assert [reading.level for reading in readings[:4]] == [0, 1, 2, 2]
    assert all(reading.frame == 5 and reading.fresh for reading in readings)
    assert readings[-1].payload_bytes == sum(len(block.data) for block in blocks)
    coarse, fine = readings[0].detections, readings[2].detections
    assert len(coarse) > 0
    assert [found.id for found in coarse] == [found.id for found in fine]
    tree = codec.taxonomy
    for first, last in zip(coarse, fine, strict=True):
        assert last.path[: len(first.path)] == first.path
        assert last.path == tree.path(tree.levels[2][last.path[-1]])
        assert last.names == tuple(tree.names(level)[node] for level, node in enumerate(last.path))
        assert all(0 <= score <= 1 for score in last.scores)
        assert list(last.scores) == sorted(last.scores, reverse=True)
        x0, y0, x1, y1 = last.box
        assert 0 <= x0 <= x1 <= size[0]
        assert 0 <= y0 <= y1 <= size[1]


def test_packets_carry_blocks_unchanged(codec):
    blocks = codec.encode(street_frame(), frame=65_535)
    assert Packet.parse(Packet.pack(blocks)).blocks == tuple(blocks)


def test_picture_gets_better_with_every_picture_block(codec):
    image = street_frame()
    decoder = codec.decoder((image.shape[1], image.shape[0]))
    errors = []
    for block in codec.encode(image):
        decoder.push(block)
        picture = decoder.picture(0)
        assert picture is not None
        assert picture.shape == image.shape
        assert picture.dtype == np.uint8
        errors.append(float(np.mean((picture.astype(float) - image) ** 2)))
    before, *refined = errors[codec.semantic_blocks - 1 :]
    assert refined[0] < before / 2
    assert refined == sorted(refined, reverse=True)


@pytest.mark.parametrize("name", ["street", "imagenet"])
def test_pictures_are_prepared_before_the_first_comes(name, monkeypatch):
    codec = Codec.load(name, "cpu", threads=1)
    compiled = []
    real = type(codec.model.backend)._compile
    monkeypatch.setattr(
        type(codec.model.backend), "_compile", lambda self, *graph: compiled.append(graph[0]) or real(self, *graph)
    )
    codec.prepare_pictures()
    assert compiled == ["picture_synthesis"], "and none that only an encoder wants"
    image = street_frame()
    decoder = codec.decoder((image.shape[1], image.shape[0]))
    for block in codec.encode(image):
        decoder.push(block)
        assert decoder.picture(0) is not None
    assert compiled.count("picture_synthesis") == 1


def test_a_model_without_pictures_prepares_none():
    Codec.load("coco80", "cpu", threads=1).prepare_pictures()


def test_fewer_blocks_and_byte_limits(codec):
    image = street_frame()
    whole = codec.encode(image)
    assert codec.encode(image, blocks=2) == whole[:2]
    sizes = np.cumsum([len(block.data) for block in whole])
    semantic = int(sizes[codec.semantic_blocks - 1])
    for limit in (semantic, int(sizes[4]), int(sizes[-1])):
        kept = codec.encode(image, max_bytes=limit)
        assert kept == whole[: len(kept)]
        assert len(kept) == int((sizes <= limit).sum())
    for limit in (semantic - 1, int(sizes[1]), int(sizes[0])):
        kept = codec.encode(image, max_bytes=limit)
        assert sum(len(block.data) for block in kept) <= limit
        assert len(kept) <= codec.semantic_blocks
    assert len(codec.encode(image, max_bytes=1)) == 1


def test_higher_threshold_sends_fewer_objects_and_bytes(codec):
    image = street_frame()
    few, many = (codec.encode(image, blocks=1, threshold=t)[0] for t in (0.5, 0.1))
    assert len(few.data) < len(many.data)


def test_nothing_there_is_an_empty_reading(codec):
    _, readings = decode_all(codec, codec.encode(street_frame(), threshold=0.999, blocks=4), None)
    assert [reading.detections for reading in readings] == [(), (), (), ()]
    assert readings[-1].payload_bytes <= 4


@pytest.mark.parametrize("shape", [(1, 1), (4001, 17), (17, 4001), (180, 320), (1080, 1920), (361, 639)])
def test_any_size(codec, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    decoder, readings = decode_all(codec, codec.encode(image, blocks=5), (shape[1], shape[0]))
    assert readings[-1].prefix == 4
    assert decoder.picture(0).shape == image.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame": 65_536}, "frame: 65536 is outside 0..65535"),
        ({"blocks": 0}, "blocks: 0 is outside 1.."),
        ({"max_bytes": 0}, "max_bytes: 0 is below 1"),
        ({"threshold": 1.5}, "threshold: 1.5 is outside 0..1"),
    ],
)
def test_bad_arguments(codec, arguments, message):
    with pytest.raises(ValueError, match=message):
        codec.encode(street_frame(), **arguments)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16), np.zeros((0, 4, 3), np.uint8)]
)
def test_bad_pictures(codec, image):
    with pytest.raises(ValueError, match="image: "):
        codec.encode(image)


def test_bad_decoder_arguments(codec):
    with pytest.raises(ValueError, match="keep_frames: 0"):
        codec.decoder(keep_frames=0)
    with pytest.raises(ValueError, match="image_size"):
        codec.decoder((0, 10))


def test_changed_model_file_is_refused(codec, tmp_path):
    import shutil

    folder = tmp_path / "road"
    shutil.copytree(codec.model.path, folder)
    path = folder / "stream.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="stream_hash is"):
        Codec.load(folder, "cpu")
    (folder / "taxonomy.yaml").unlink()
    path.write_bytes((codec.model.path / "stream.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"taxonomy\.yaml is missing"):
        Codec.load(folder, "cpu")


def test_a_gpu_without_torch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for device in ("cuda", "torch"):
        with pytest.raises(ValueError, match=f"device: {device} needs torch, which is not installed: pip install "):
            Codec.load("road", device=device)


def test_device_names():
    with pytest.raises(ValueError, match="device: 'gpu' is not one of auto, cpu, cuda, torch"):
        Codec.load("road", "gpu")


def test_blocks_of_another_stream_are_refused(codec):
    from semhier_ros.codec import PacketError

    block = codec.encode(street_frame(), blocks=1)[0]
    decoder = codec.decoder()
    with pytest.raises(PacketError, match="stream tag"):
        decoder.push(dataclasses.replace(block, stream=codec.stream_tag ^ 1))
    assert decoder.counters["other_stream"] == 1
    assert decoder.push(block) is not None
