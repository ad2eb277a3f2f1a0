"""What is imported is declared: ROS 2 packages in package.xml, Python packages in requirements/ and constraints.txt."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("packaging", reason="packaging is not installed (extra `test`)")
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from semhier_ros import cli

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ROS_NAME = re.compile(r"\w+_(?:msgs|interfaces)|rclpy|cv_bridge|ament_index_python|launch|launch_ros")
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "opencv-python-headless": "python3-opencv",
    "pillow": "python3-pil",
    "PyYAML": "python3-yaml",
    "scipy": "python3-scipy",
}
NO_ROSDEP_KEY = {"eclipse-zenoh", "mcap", "msgspec", "openvino", "rosbags", "safetensors"}
"""Of requirements/runtime.txt; rosdep has no rule for these."""


def ros_packages_imported() -> set[str]:
    """By an import statement, or by the functions that import a package's messages by its name."""
    found = set()
    for path in [*(ROOT / "semhier_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_installed":
                found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return {name for name in found if ROS_NAME.fullmatch(name)}


def declared(*tags: str) -> set[str]:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    return {(element.text or "").strip() for tag in tags for element in root.iter(tag)}


def lines(path: Path) -> Iterator[Requirement]:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield Requirement(text)


def applies(requirement: Requirement, python: str) -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "x86_64"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_package_xml_names_the_ros_packages_that_are_imported() -> None:
    assert ros_packages_imported() - declared("depend", "exec_depend") == set()


def test_what_only_tests_import_is_a_dependency_of_tests() -> None:
    assert "cv_bridge" in declared("test_depend") - declared("depend", "exec_depend")
    assert "cv-bridge" in {requirement.name for requirement in lines(REQUIREMENTS / "test.txt")}
    assert "cv-bridge" not in {requirement.name for requirement in lines(REQUIREMENTS / "ros.txt")}


def test_package_xml_names_every_python_package_that_runs_or_says_that_rosdep_lacks_it() -> None:
    runtime = {requirement.name for requirement in lines(REQUIREMENTS / "runtime.txt")}
    assert runtime == NO_ROSDEP_KEY | set(ROSDEP_KEYS)
    assert set(ROSDEP_KEYS.values()) <= declared("exec_depend")
    text = (ROOT / "package.xml").read_text(encoding="utf-8")
    (said,) = re.findall(r"<!-- ([^>]*?) have no rosdep key", text, re.DOTALL)
    assert set(re.split(r", | and ", said)) == NO_ROSDEP_KEY


def test_pins_exist_for_every_python_that_they_hold() -> None:
    """Of what is installed here: a pin without a marker must not ask for a newer Python than the oldest."""
    wrong = []
    for pin in lines(REQUIREMENTS / "constraints.txt"):
        try:
            wheel = importlib.metadata.distribution(pin.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = SpecifierSet(wheel.metadata.get("Requires-Python") or "")
        if pin.specifier.contains(wheel.version):
            wrong += [f"{pin} on {python}" for python in PYTHONS if applies(pin, python) and f"{python}.0" not in needs]
    assert wrong == []


@pytest.mark.parametrize("python", PYTHONS)
def test_no_requirement_needs_another_numpy_than_the_pinned_one(python: str) -> None:
    (numpy,) = [pin for pin in lines(REQUIREMENTS / "constraints.txt") if pin.name == "numpy" and applies(pin, python)]
    (version,) = (specifier.version for specifier in numpy.specifier)
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        for wanted in lines(path):
            try:
                needs = importlib.metadata.requires(wanted.name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            for need in (Requirement(text) for text in needs if applies(wanted, python)):
                if need.name == "numpy" and "extra" not in str(need.marker) and applies(need, python):
                    assert need.specifier.contains(version), f"{path.name}: {wanted} on {python} needs {need}"


def test_constraints_do_not_hold_this_package_itself() -> None:
    assert "semhier-ros" not in {pin.name for pin in lines(REQUIREMENTS / "constraints.txt")}


@pytest.fixture(scope="module")
def packages_of() -> Mapping[str, list[str]]:
    """The packages that bring each library which is installed here."""
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize(("library", "file"), cli.REQUIREMENTS_OF_LIBRARY.items())
def test_the_file_that_the_command_line_names_brings_the_library(
    library: str, file: str, packages_of: Mapping[str, list[str]]
) -> None:
    packages = packages_of.get(library)
    if packages is None:
        pytest.skip(f"{library} is not installed")
    brought = {canonicalize_name(requirement.name) for requirement in lines(REQUIREMENTS / f"{file}.txt")}
    assert brought & {canonicalize_name(package) for package in packages}


@pytest.mark.parametrize(
    "place",
    ["*.py", "camera", "codec", "footage", "ground", "lab", "link", "nodes", "scene", "torch", "training", "../docs"],
)
def test_no_message_asks_pip_for_extras_of_a_package_that_is_on_no_index(place: str) -> None:
    """The nodes run in colcon builds, whose metadata hold no extras; in a clone it is `pip install '.[extra]'`."""
    package = ROOT / "semhier_ros"
    files = package.glob(place) if place.startswith("*") else (package / place).rglob("*.[pm][yd]")
    asking = [path.name for path in files if re.search(r"semhier[-_]ros\[", path.read_text(encoding="utf-8"))]
    assert asking == []
