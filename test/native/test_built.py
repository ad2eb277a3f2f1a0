"""`make` and colcon build the kernels: that Python could stand in for them must not hide that they are missing."""

from __future__ import annotations

from semhier_ros.native import kernels


def test_this_build_has_its_kernels() -> None:
    assert kernels is not None
