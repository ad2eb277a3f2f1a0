"""The lens of footage: from the bag, or as it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semhier_ros.command import CommandError
from semhier_ros.footage.bags import camera_info_of
from semhier_ros.ground import GroundError, Lens


def lens_of(camera: Any, given: Sequence[float] | None) -> Lens:
    """The lens of a camera: focal lengths and centre in pixels that were given, else what the CameraInfo beside its
    images says. Raises CommandError where it is not known."""
    if given is not None:
        return Lens(*camera.size, *given)
    info = camera_info_of(camera)
    if info is None:
        raise CommandError("--ground: this footage has no CameraInfo; say --lens FX,FY,CX,CY (pixels)")
    try:
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
