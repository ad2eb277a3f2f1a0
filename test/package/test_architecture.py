"""The house is as docs/architecture.md draws it: arrows between rooms, no circles between files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "semhier_ros"
NOT_ALONE = ("nodes", "launching", "torch", "training")
"""Rooms that are made of ROS 2 or of torch."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """What a file imports of this package, inside its functions too; what serves type checkers alone is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_circles_between_files() -> None:
    arrows = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}
    while leaves := [name for name, others in arrows.items() if not others & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    rooted = {name for others in arrows.values() for name in others}
    circles = {name: sorted(others & arrows.keys()) for name, others in arrows.items() if name in rooted}
    assert not circles


def test_arrows_between_rooms_are_those_of_the_contracts() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra `test`)")
    program = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " 0 broken" in done.stdout


def test_the_picture_in_the_documents_is_the_contract() -> None:
    """Both are lines of rooms, the picture's with a word on each."""
    contract = (ROOT / ".importlinter").read_text().partition("layers =\n")[2].partition("\nexhaustive")[0]
    rooms = (ROOT / "docs" / "architecture.md").read_text().partition("## Rooms")[2]
    picture = rooms.partition("```\n")[2].partition("```")[0]
    drawn = [line.partition("  ")[0].strip() for line in picture.splitlines()]
    assert drawn == [line.strip() for line in contract.splitlines()]


def test_every_module_outside_nodes_imports_without_torch_and_ros() -> None:
    names = [name for name in MODULES if name.split(".")[1:2] not in ([], *([n] for n in NOT_ALONE))]
    names = [name for name in names if not name.endswith("__main__")]
    assert len(names) > 100
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'compressai', 'rclpy', 'vision_msgs'): sys.modules[name] = None\n"
        f"failed = {{}}\nfor name in {names!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: failed[name] = str(error)\n"
        "print(failed)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "{}", done.stdout
