"""What `from semhier_ros import …` gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import semhier_ros
from semhier_ros import Block, Codec, EncodeOptions


def test_every_public_name_is_there() -> None:
    for name in semhier_ros.__all__:
        assert getattr(semhier_ros, name) is not None
    assert (Path(semhier_ros.__file__).parent / "py.typed").is_file()


def test_options_and_single_fields_ask_for_the_same(codec: Codec) -> None:
    image = np.full((90, 160, 3), 90, np.uint8)
    options = EncodeOptions(blocks=2, max_bytes=60)
    whole = codec.encode(image, options, frame=3)
    assert whole == codec.encode(image, blocks=2, max_bytes=60, frame=3)
    assert codec.encode(image, options, blocks=1, frame=3) == whole[:1]
    assert all(isinstance(block, Block) for block in whole)
    with pytest.raises(TypeError, match="colour"):
        codec.encode(image, colour=3)  # type: ignore[call-arg]
