"""The commands that README.md and docs/ tell people to type exist, with the options they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from semhier_ros.cli import ROOMS, parse

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "models").glob("*/README.md"))]


def commands(text: str) -> list[str]:
    """The `semhier …` lines of a document's code blocks, continued lines joined, comments off."""
    found = []
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^    (?=\S).*\n)+", text, re.MULTILINE)
    for block in [*blocks, *indented]:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = line.strip().removeprefix(".venv/bin/")
            if words.startswith("semhier ") and "…" not in words and "<" not in words:
                found.append(words)
    return found


CASES = [(path, line) for path in DOCUMENTS for line in commands(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("path", "line"), CASES, ids=[f"{path.name}: {line[:60]}" for path, line in CASES])
def test_a_documented_command_can_be_typed(
    path: Path, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)[1:]
    assert words, line
    if words[0].startswith("-"):
        return
    assert words[0] in ROOMS, f"{path.name}: no command {words[0]!r}"
    try:
        parse([re.sub(r"^\[|\]$", "", word) for word in words])
    except SystemExit as ended:
        if ended.code:
            pytest.fail(f"{path.name}: {line}\n{capsys.readouterr().err}")


def test_documents_hold_commands_to_check() -> None:
    assert len(CASES) > 20


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


LAUNCHED = re.compile(r"(?<![\w/.])(\w+\.launch\.py)((?:\s+\w+:=\S+)+)")
TEXTS = [*DOCUMENTS, *sorted((ROOT / "config").rglob("*.yaml")), *sorted((ROOT / "launch").glob("*.py"))]
LAUNCHES = [
    (path, file, name)
    for path in TEXTS
    for file, given in LAUNCHED.findall(path.read_text(encoding="utf-8"))
    for name in re.findall(r"(\w+):=", given)
    if file != "collision_monitor_node.launch.py"
]


@pytest.mark.parametrize(("path", "file", "name"), LAUNCHES)
def test_a_documented_launch_argument_is_one_of_its_file(path: Path, file: str, name: str) -> None:
    """Read as text, since launch files need `launch`: their own arguments, and those that they share."""
    own = (ROOT / "launch" / file).read_text(encoding="utf-8")
    shared = (ROOT / "semhier_ros" / "launching.py").read_text(encoding="utf-8") if "*common(" in own else ""
    assert name in re.findall(r'(?:Argument\(\s*|also=)"(\w+)"', own + shared), f"{path.name}: {file} {name}:=…"


def test_documents_hold_launches_to_check() -> None:
    assert len(LAUNCHES) > 20
