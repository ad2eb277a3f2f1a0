"""The lens of footage: from the bag, or as it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semhier_ros.command import CommandError
from semhier_ros.footage.bags import camera_info_of
from semhier_ros.ground import GroundError, Lens


def lens_of(camera: Any, given: Sequence[float] | None) -> Lens:
    """The lens of a camera: focal lengths and centre that were given, in pixels of the footage as it was taken, else
    what the CameraInfo beside its images says; for the pictures that the camera gives, which may be scaled down. Raises
    CommandError where it is not known."""
    try:
        if given is not None:
            fx, fy, cx, cy = given
            matrix = (fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0)
            return Lens.of_camera_info(source_size(camera), matrix, (), "", picture=camera.size)
        info = camera_info_of(camera)
        if info is None:
            raise CommandError("--ground: this footage has no CameraInfo; say --lens FX,FY,CX,CY (pixels)")
        return Lens.of_camera_info(
            (int(info.width), int(info.height)),
            tuple(info.k),
            tuple(info.d),
            info.distortion_model,
            p=tuple(info.p),
            binning=(int(info.binning_x), int(info.binning_y)),
            roi=(int(info.roi.x_offset), int(info.roi.y_offset), int(info.roi.width), int(info.roi.height)),
            picture=camera.size,
        )
    except GroundError as error:
        raise CommandError(f"--ground: {error}") from error


def source_size(camera: Any) -> tuple[int, int]:
    """Width and height of the footage as it was taken, in pixels."""
    width, height = getattr(camera, "source_size", None) or camera.size
    return int(width), int(height)
