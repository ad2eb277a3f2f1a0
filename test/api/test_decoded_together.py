"""Picture blocks of many frames decoded together: symbol for symbol what one frame alone gives, on every arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from street import street_frames

from semhier_ros import Codec
from semhier_ros.codec.model import PicturesFound, PictureWork


def device(name: str) -> str:
    if name == "cpu":
        return name
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return name


@pytest.fixture(scope="module", params=["road", "imagenet"])
def coded(request):
    """A model's blocks of six frames, and the code of each after every block, from a decoder of one frame."""
    codec = Codec.load(request.param, "cpu", threads=1)
    frames = [[block.data for block in codec.encode(picture)] for picture in street_frames()[:36:6]]
    codes = []
    for frame in frames:
        code, after = None, []
        for index, data in enumerate(frame):
            code = codec.model.decode(index, data, code)
            after.append(code)
        codes.append(after)
    return request.param, frames, codes


@pytest.mark.parametrize("where", ["cpu", "torch", "cuda"])
def test_many_frames_together_are_what_each_is_alone(coded, where):
    name, frames, codes = coded
    codec = Codec.load(name, device(where), threads=1)
    first = codec.semantic_blocks
    works = []
    for number, (frame, own) in enumerate(zip(frames, codes, strict=True)):
        start = first + number % 2  # some have their first picture block already
        works.append(PictureWork(own[start - 1], start, tuple(frame[start : len(frame) - number % 3])))
    before = [len(work.code.picture) for work in works]
    for work, found, own in zip(works, codec.decode_pictures(works), codes, strict=True):
        assert found.error is None
        assert found.blocks == len(work.data)
        for one, other in zip(found.code.picture, own[work.first + found.blocks - 1].picture, strict=True):
            np.testing.assert_array_equal(one.latents, other.latents)
            np.testing.assert_array_equal(np.concatenate(one.symbols), np.concatenate(other.symbols))
            np.testing.assert_array_equal(np.concatenate(one.rows), np.concatenate(other.rows))
    assert [len(work.code.picture) for work in works] == before, "the codes that were given stay as they were"


def test_a_decoder_that_leaves_pictures_for_later_ends_where_another_does(codec):
    blocks = codec.encode(street_frames()[0], frame=3)
    size = street_frames()[0].shape[1::-1]
    plain, later = codec.decoder(size), codec.decoder(size, pictures_later=True)
    order = [6, 0, 1, 5, 2, 3, 4]
    for index in order:
        plain.push(blocks[index])
        later.push(blocks[index])
    work = later.picture_work(3)
    assert work is not None
    assert (work.first, len(work.data)) == (4, 3)
    assert not later.push(blocks[5]).fresh, "a second copy"
    (found,) = codec.decode_pictures([work])
    reading = later.take_pictures(3, work, found)
    assert reading == replace(plain.push(blocks[6]), fresh=True)
    assert reading.prefix == 6
    assert reading.payload_bytes == sum(len(block.data) for block in blocks)
    np.testing.assert_array_equal(later.picture(3), plain.picture(3))
    assert later.take_pictures(3, work, found) is None, "it has gone on"
    assert later.take_pictures(9, work, PicturesFound(found.code, 3, None)) is None, "nobody keeps it"


def test_after_a_retreat_the_detector_looks_as_it_was_told_and_feet_stay():
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    codec = Codec.load("street", "torch", threads=1, detector_looks=["800x480"], foot_bits=True)
    tag = codec.stream_tag
    assert codec.retreat()
    assert [str(look) for look in codec.model.finder.looks] == ["800x480"]
    assert codec.foot_bits
    assert codec.encode(street_frames()[0])[0].stream == tag


def test_retreat_goes_on_with_frames_in_the_making():
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    own, codec = Codec.load("road", "torch", threads=1), Codec.load("road", "cpu", threads=1)
    picture = street_frames()[0]
    blocks = codec.encode(picture)
    decoder, other = own.decoder(picture.shape[1::-1]), codec.decoder(picture.shape[1::-1])
    for block in blocks[:5]:
        decoder.push(block)
        other.push(block)
    assert own.device == "torch"
    assert own.retreat()
    assert not own.retreat()
    assert own.device == "cpu"
    for block in blocks[5:]:
        assert decoder.push(block) == other.push(block)
    np.testing.assert_array_equal(decoder.picture(0), other.picture(0))
