"""The door `semhier`: it opens every room, and what goes wrong comes out as one line."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from semhier_ros import cli
from semhier_ros.command import CommandError


def room(name: str, monkeypatch: pytest.MonkeyPatch, **members: object) -> None:
    """Adds the command `name` with a module made of `members`."""
    module = ModuleType(f"semhier_room_{name}")
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.ROOMS, name, cli.Room(module.__name__, "a room of the tests"))


COMMANDS = [
    (name, *member)
    for name, room in sorted(cli.ROOMS.items())
    for member in ([()] if isinstance(room, cli.Room) else [(), *((each,) for each in room.rooms)])
]
"""Every command as it is typed; a family by its name alone too."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_exists_and_has_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    if words == ("link", "top"):
        pytest.importorskip("rclpy", reason="`semhier link top` needs ROS 2")
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    assert f"semhier {' '.join(words)}" in capsys.readouterr().out


WITH_CHECKS_OF_THEIR_OWN = {"bag", "republish", "adopt"}
"""Commands that say before the work what keeps their --out from being written: bags and model folders replace nothing
of others."""


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("link", "top")], ids=" ".join)
def test_every_place_that_is_written_is_checked_before_the_work(words: tuple[str, ...]) -> None:
    for parser in commands_of(cli.build_parser(*words)):
        checked = parser.get_default("outputs") or {}
        named = {action.dest for action in parser._actions} & {"out", "json", "plot", "rerun"}
        if words[0] not in WITH_CHECKS_OF_THEIR_OWN:
            assert named <= set(checked), parser.prog


def test_a_place_that_is_taken_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("hello")
    for place in ("file", "file/sub"):
        assert cli.main(["show", "a.png", "--out", str(tmp_path / place)]) == 2
        assert capsys.readouterr().err.startswith(f"semhier: --out {tmp_path / place}: ")


def test_a_command_of_an_earlier_release_says_its_new_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.MOVED, ("ponder", "links"), "semhier link top")
    assert cli.main(["ponder", "links", "--all"]) == 2
    assert capsys.readouterr().err == "semhier: `semhier ponder links` has another name now: `semhier link top`\n"


def commands_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and those of all its commands, at any depth."""
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(found for group in choices for command in group.values() for found in commands_of(command))]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("link", "top")], ids=" ".join)
def test_every_command_of_a_room_has_help(words: tuple[str, ...]) -> None:
    for parser in commands_of(cli.build_parser(*words)):
        assert "usage:" in parser.format_help()


def test_a_rooms_options_reach_its_run_and_its_status_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--count", type=int)

    room("plain", monkeypatch, add_arguments=add_arguments, run=lambda options: options.count)
    assert cli.main(["plain", "--count", "3"]) == 3


def test_a_room_may_have_commands_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(required=True)
        commands.add_parser("five").set_defaults(run=lambda options: 5)

    room("nested", monkeypatch, add_arguments=add_arguments)
    assert cli.main(["nested", "five"]) == 5


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("no camera 'left': the bag has front, rear"), "semhier: no camera 'left'"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "semhier: `broken` needs torch: in a clone"),
        (ModuleNotFoundError("No module named 'open_clip.x'", name="open_clip.x"), "-r requirements/taxonomy.txt"),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), "-r requirements/report.txt"),
        (FileNotFoundError(2, "No such file or directory", "list.txt"), "semhier: list.txt: No such file or directory"),
        (PermissionError(13, "Permission denied", "/root/x"), "semhier: /root/x: Permission denied"),
        (FileNotFoundError("no model 'left'"), "semhier: no model 'left'"),
    ],
)
def test_what_the_user_can_put_right_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(options: argparse.Namespace) -> int:
        raise error

    room("broken", monkeypatch, add_arguments=lambda parser: None, run=run)
    assert cli.main(["broken"]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_a_fault_of_ours_stays_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'semhier_ros.nowhere'", name="semhier_ros.nowhere")

    room("broken", monkeypatch, add_arguments=lambda parser: None, run=run)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["broken"])


@pytest.mark.parametrize("arguments", [[], ["--nothing"]])
def test_wrong_use_ends_with_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: semhier" in capsys.readouterr().err


def test_the_installed_program_may_be_read_again_by_the_processes_that_it_starts(tmp_path: Path) -> None:
    template = Path(__file__).resolve().parents[2] / "cmake" / "entry.py.in"
    program = tmp_path / "semhier"
    program.write_text(template.read_text().replace("@SEMHIER_MODULE@", "semhier_ros.cli"))
    names = runpy.run_path(str(program), run_name="__mp_main__")
    assert names["main"] is cli.main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reply", "drive.mcap"], "semhier: `semhier` has no command 'reply'; did you mean `semhier replay`?"),
        (["xyz"], "semhier: `semhier` has no command 'xyz'; `semhier --help` lists them"),
        (["link", "tip"], "semhier: `semhier link` has no command 'tip'; did you mean `semhier link top`?"),
    ],
)
def test_a_command_that_there_is_not_gives_the_one_that_is_like_it(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err == said + "\n"


def test_no_command_at_all_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    listed = capsys.readouterr().err
    assert all(f"    {name}" in listed for name in cli.ROOMS)
