"""What launch arguments mean, read without `launch`: they win over a parameter file only when they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from semhier_ros.launching import (
    Argument,
    camera_info_beside,
    in_file,
    log_level,
    merged,
    overrides,
    params_file,
    words,
)

ARGUMENTS = [
    Argument("camera", "Camera.", parameter="camera", also="cameras"),
    Argument("budget", "Budget.", parameter="link.budget_kbit", kind=float),
    Argument("listen", "Endpoints.", parameter="link.zenoh.listen", kind=words),
]


def test_an_argument_that_is_not_given_overrides_nothing() -> None:
    assert overrides(merged({"camera": "", "budget": "64", "listen": ""}, ARGUMENTS), ARGUMENTS) == {
        "link.budget_kbit": 64.0
    }


def test_the_other_ends_name_of_an_argument_is_accepted() -> None:
    assert overrides(merged({"cameras": "front"}, ARGUMENTS), ARGUMENTS) == {"camera": "front"}
    with pytest.raises(ValueError, match="camera: 'rear' and cameras: 'front' are two names of one thing"):
        merged({"camera": "rear", "cameras": "front"}, ARGUMENTS)


def test_a_parameter_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"params_file: '.*nowhere.yaml' is no file that exists"):
        params_file({"params_file": str(tmp_path / "nowhere.yaml")})


def test_an_unknown_severity_is_refused_with_those_that_exist() -> None:
    assert log_level({"log_level": "WARN"}) == "WARN"
    assert log_level({"log_level": "encoder_node:=debug"}) == "encoder_node:=debug"
    with pytest.raises(ValueError, match="log_level: 'loud', expected one of debug, info, warn, error, fatal"):
        log_level({"log_level": "loud"})


def test_topics_follow_the_camera_of_the_parameter_file(tmp_path: Path) -> None:
    file = tmp_path / "encoder.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    camera: front\n    link: {budget_kbit: 64}\n"
        "/robot/other_node:\n  ros__parameters: {camera: rear}\n",
        encoding="utf-8",
    )
    assert in_file(str(file), "encoder_node", "camera", "camera") == "front"
    assert in_file(str(file), "other_node", "camera", "camera") == "rear"
    assert in_file(str(file), "encoder_node", "link.budget_kbit", "0") == "64"
    assert in_file(str(file), "encoder_node", "input", "raw") == "raw"
    (tmp_path / "empty.yaml").touch()
    assert in_file(str(tmp_path / "empty.yaml"), "encoder_node", "camera", "camera") == "camera"


@pytest.mark.parametrize(
    ("image", "compressed", "info"),
    [
        ("/front/image_raw", False, "/front/camera_info"),
        ("/front/image_raw/compressed", True, "/front/camera_info"),
        ("image", False, "camera_info"),
        ("/image", False, "/camera_info"),
        ("", False, ""),
    ],
)
def test_camera_info_is_the_sibling_of_the_image(image: str, compressed: bool, info: str) -> None:
    assert camera_info_beside(image, compressed) == info
