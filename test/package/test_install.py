"""`pip install .` alone: the wheel carries Python, models and parameter files, and finds them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("semhier_ros", "native", "models", "config", "requirements")
PARTS = (*FOLDERS, "pyproject.toml", "setup.py", "LICENSE", "README.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    compiler = folder / "unoptimised"  # in half the time; that the kernels are there is what is asked
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CXX", "c++")} "$@" -O0\n', encoding="utf-8")
    compiler.chmod(0o755)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    environment = os.environ | {"CXX": str(compiler)}
    result = subprocess.run(
        [*command, str(folder), str(source)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("*.whl")
    installed = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    return installed


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def run(python: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "AMENT"))}
    environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [str(python), *arguments], cwd=site, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_python_file_is_in_the_wheel_and_the_mark_of_a_typed_package(site: Path) -> None:
    want = {path.relative_to(ROOT) for path in (ROOT / "semhier_ros").rglob("*.py")}
    got = {path.relative_to(site) for path in (site / "semhier_ros").rglob("*.py")}
    assert want <= got
    assert (site / "semhier_ros" / "py.typed").is_file()


@pytest.mark.parametrize("folder", ["models", "config"])
def test_data_files_are_in_the_wheel(site: Path, folder: str) -> None:
    if not (ROOT / folder).is_dir():
        pytest.skip(f"{folder}/ is not in this tree")
    want = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    got = {path.relative_to(site / "semhier_ros") for path in (site / "semhier_ros" / folder).rglob("*")}
    assert want <= got


def test_the_wheel_has_compiled_kernels(site: Path) -> None:
    code = "from semhier_ros.native import kernels; print(kernels.__file__)"
    result = run(Path(sys.executable), site, "-c", code)
    assert Path(result.stdout.strip()).parent == site / "semhier_ros", result.stderr


def test_the_installed_package_finds_its_files(site: Path, bare_python: Path) -> None:
    code = "from semhier_ros.paths import config_dir; print(config_dir())"
    result = run(bare_python, site, "-c", code)
    assert result.stdout.strip() == str((site / "semhier_ros" / "config").resolve()), result.stderr


def test_the_command_line_answers_on_a_bare_python(site: Path, bare_python: Path) -> None:
    result = run(bare_python, site, "-m", "semhier_ros.cli", "--version")
    assert result.stdout.startswith("semhier_ros "), result.stderr


def test_a_node_says_in_one_line_what_to_install(site: Path, bare_python: Path) -> None:
    result = run(bare_python, site, "-c", "import semhier_ros.nodes.encoder_node")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("ImportError: semhier_ros.nodes needs ROS 2")
