"""Lets the tests of this folder import `street`, which pytest's importlib mode does not put on the path."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def codec():
    """The shipped road model on the CPU path, one thread."""
    from semhier_ros import Codec

    return Codec.load("road", "cpu", threads=1, precision="f32")
