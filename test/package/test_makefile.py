"""The Makefile: an environment is made anew where it was made for another ROS 2, and only there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if shutil.which("make") is None:
    pytest.skip("make is not installed", allow_module_level=True)


def make(*words: str, ros: str) -> subprocess.CompletedProcess[str]:
    """What make would do, with `ros` sourced; nothing is done."""
    environment = {name: text for name, text in os.environ.items() if name not in ("ROS_DISTRO", "MAKEFLAGS", "VENV")}
    environment |= {"ROS_DISTRO": ros} if ros else {}
    command = ["make", "--dry-run", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("made_for", ["", "jazzy"])
@pytest.mark.parametrize("ros", ["", "jazzy", "kilted"])
def test_an_environment_of_another_ros_is_made_anew(tmp_path: Path, made_for: str, ros: str) -> None:
    stamps = tmp_path / "venv" / "stamps" / made_for
    stamps.mkdir(parents=True)
    for name in ("venv", "runtime", "files", "built"):
        (stamps / name).touch()
    result = make(f"VENV={tmp_path / 'venv'}", "setup", ros=ros)
    assert result.returncode == 0, result.stderr
    assert ("-m venv --clear" in result.stdout) == (ros != made_for)
    assert ("venv --clear --system-site-packages" in result.stdout) == (ros not in ("", made_for))


def test_every_target_has_a_rule() -> None:
    targets = (ROOT / "Makefile").read_text(encoding="utf-8").partition(".PHONY: ")[2].splitlines()[0].split()
    assert "test" in targets
    for target in targets:
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), target
    assert make("check", ros="").returncode != 0, "a target that is none must not pass for done"
