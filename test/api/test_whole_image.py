"""Model imagenet behind the same facade: names level by level, calibrated readings, pictures, exactness, odd inputs."""

import contextlib
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from street import street_frames

from semhier_ros import Codec
from semhier_ros.codec import Packet, PacketError
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.whole_image.folder import write_image_card
from semhier_ros.whole_image.stream import ImageCode

GOLDEN = Path(__file__).with_name("golden_imagenet.json")


@pytest.fixture(scope="module")
def imagenet():
    return Codec.load("imagenet", "cpu", threads=1)


def decoded(codec, blocks, size=(320, 240)):
    decoder = codec.decoder(size)
    return decoder, [decoder.push(block) for block in blocks]


def assert_same(first, second):
    assert first.path == second.path
    for name in ("latents", "picture"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            one, other = (part.latents if name == "picture" else part for part in (one, other))
            np.testing.assert_array_equal(one, other)


def test_one_answer_refines_level_by_level(imagenet):
    image = street_frames()[0]
    size = (image.shape[1], image.shape[0])
    blocks = imagenet.encode(image, frame=7)
    assert [block.index for block in blocks] == list(range(len(imagenet.block_names)))
    assert imagenet.block_names[:4] == ("level_0", "level_1", "level_2", "detail")
    assert len(imagenet.block_names) >= 8
    assert Packet.parse(Packet.pack(blocks)).blocks == tuple(blocks)
    _, readings = decoded(imagenet, blocks, size)
    for reading in readings:
        (found,) = reading.detections
        assert len(found.path) == reading.level + 1 == min(reading.prefix, 2) + 1
        assert found.path == imagenet.taxonomy.path((reading.level, found.path[-1]))
        assert found.names == tuple(imagenet.taxonomy.names(k)[node] for k, node in enumerate(found.path))
        assert found.box == (0, 0, *size)
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert all(0 < score <= 1 for score in found.scores)
    assert readings[-1].payload_bytes == sum(len(block.data) for block in blocks)


def test_a_picture_from_every_prefix_nearer_with_more_picture_blocks(imagenet):
    image = street_frames()[0]
    decoder = imagenet.decoder((image.shape[1], image.shape[0]))
    errors = []
    side = round(0.875 * min(image.shape[:2]))
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    for block in imagenet.encode(image):
        decoder.push(block)
        picture = decoder.picture(0)
        assert picture.shape == image.shape
        seen = picture[top : top + side, left : left + side].astype(float)
        errors.append(float(np.mean((seen - image[top : top + side, left : left + side]) ** 2)))
    refined = errors[imagenet.semantic_blocks :]
    assert all(later <= 1.005 * earlier for earlier, later in itertools.pairwise(refined))
    assert refined[-1] < 0.8 * refined[0] < 0.8 * errors[0]


def test_posteriors_sum_to_one_and_nest(imagenet):
    model = imagenet.model
    code = None
    for index, block in enumerate(imagenet.encode(street_frames()[0], blocks=4)):
        code = model.decode(index, block.data, code)
        logits = model.reader.logits(code, index)
        for level in range(3):
            chances = model.reader.posterior(logits, code.quality, index, level)
            assert chances.shape == (imagenet.taxonomy.sizes[level],)
            assert chances.sum() == pytest.approx(1)
    assert model.reader.features(code, 3).shape == (1280,)


def test_qualities_order_the_bytes(imagenet):
    sizes = []
    for quality in range(5):
        blocks = [imagenet.encode(image, blocks=4, quality=quality) for image in street_frames()[::12]]
        sizes.append(sum(len(block.data) for frame in blocks for block in frame))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


def test_bf16_on_two_threads_decodes_to_its_very_symbols(imagenet):
    from semhier_ros.whole_image.encoder import code_image
    from semhier_ros.whole_image.view import square_view

    model = Codec.load("imagenet", "cpu", threads=2, precision="bf16").model
    for image in street_frames()[::12]:
        view = square_view(image, 224)
        code = code_image(model.reader, model.backend.classify(view), 2, 4)
        model.stream.pictures.quantise_all(model.backend.analyse(view), code.picture, len(model.stream.pictures.groups))
        read = None
        for index in range(model.stream.blocks):
            read = imagenet.model.decode(index, model.stream.encode(index, code), read)
        assert_same(read, code)


def test_golden_semantic_blocks(imagenet):
    """Fixed symbols give exactly these bytes, and these bytes exactly those symbols. SEMHIER_WRITE_GOLDEN=1 writes
    the file anew: right only together with other semantic blocks."""
    stream = imagenet.model.stream
    draw = np.random.default_rng(7)
    code = ImageCode(1, [int(node) for node in imagenet.taxonomy.path(207)])
    for block in range(stream.semantic_blocks):
        means, _ = stream.latent_parameters(block, code)
        code.latents.append(
            (means + stream.layout.steps[1][block] * draw.integers(-2, 3, means.shape)).astype(np.int32)
        )
    blocks = [stream.encode(index, code).hex() for index in range(stream.semantic_blocks)]
    if os.environ.get("SEMHIER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(blocks, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert blocks == golden
    read = None
    for index, data in enumerate(golden):
        read = imagenet.model.decode(index, bytes.fromhex(data), read)
    assert_same(read, code)


def test_what_a_forged_block_says_is_gone_with_it(imagenet):
    """A prefix stays as it was whatever was tried on top of it, cached parameters included."""
    decode = imagenet.model.decode
    blocks = [block.data for block in imagenet.encode(street_frames()[0], blocks=4)]
    code = decode(0, blocks[0], None)
    for forged in (bytes(len(blocks[1])), b"\xff" * 40, blocks[2], b""):
        with contextlib.suppress(PacketError):
            decode(2, blocks[2], decode(1, forged, code))
    for index in range(1, 4):
        code = decode(index, blocks[index], code)
    assert [imagenet.model.stream.encode(index, code) for index in range(4)] == blocks


@pytest.mark.parametrize("shape", [(1, 1), (4001, 17), (17, 4001), (224, 224), (720, 1280)])
def test_any_size(imagenet, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    decoder, readings = decoded(imagenet, imagenet.encode(image, blocks=5), (shape[1], shape[0]))
    assert readings[-1].prefix == 4
    assert decoder.picture(0).shape == image.shape


def test_damaged_blocks_raise_packet_errors_and_nothing_else(imagenet):
    model = imagenet.model
    blocks = imagenet.encode(street_frames()[0])
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        code = None
        damaged = int(random.integers(len(blocks)))
        try:
            for index, block in enumerate(blocks):
                data = bytearray(block.data)
                if index == damaged:
                    data = bytearray(random.integers(0, 256, int(random.integers(0, 200)), dtype=np.uint8).tobytes())
                code = model.decode(index, bytes(data), code)
        except PacketError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"quality": 5}, "quality: 5 is outside 0..4"), ({"blocks": 40}, "blocks: 40 is outside 1..")],
)
def test_bad_arguments(imagenet, arguments, message):
    with pytest.raises(ValueError, match=message):
        imagenet.encode(street_frames()[0], **arguments)


def test_a_model_of_an_earlier_version_says_so(imagenet, tmp_path):
    folder = tmp_path / "imagenet"
    shutil.copytree(imagenet.model.path, folder)
    heads = load_file(folder / "heads.safetensors")
    del heads["search_even"]
    save_file(heads, folder / "heads.safetensors")
    write_image_card(folder, "imagenet", imagenet.model.stream.layout)
    with pytest.raises(ModelError, match="of an earlier version; make it anew with"):
        Codec.load(folder, "cpu")


def test_changed_model_file_is_refused(imagenet, tmp_path):
    folder = tmp_path / "imagenet"
    shutil.copytree(imagenet.model.path, folder)
    data = bytearray((folder / "heads.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "heads.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="model_hash is"):
        Codec.load(folder, "cpu")
    card = (folder / "model.json").read_text()
    (folder / "model.json").write_text(card.replace('"whole-image"', '"video"'))
    with pytest.raises(ModelError, match="kind 'video', this release knows scene, whole-image"):
        Codec.load(folder, "cpu")


@pytest.mark.torch
def test_torch_reads_what_openvino_encodes(imagenet):
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    other = Codec.load("imagenet", "torch")
    painter = Codec.load("imagenet", "cpu", threads=1, precision="f32")  # else in integers, where there are ranges
    image = street_frames()[0]
    blocks = imagenet.encode(image)
    ours, theirs = painter.decoder(), other.decoder()
    for block in blocks:
        assert ours.push(block) == theirs.push(block)
    difference = np.abs(ours.picture(0).astype(int) - theirs.picture(0))
    assert difference.mean() < 0.5
