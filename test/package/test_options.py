"""Options that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from semhier_ros import options
from semhier_ros.command import CommandError


def parsed(parser: argparse.ArgumentParser, *words: str) -> argparse.Namespace:
    return parser.parse_args(list(words))


@pytest.mark.parametrize("words", [["a,b,c"], ["a", "b", "c"], ["a,", "b", ",c"], ["a,b", "c"]])
def test_lists_take_commas_spaces_or_both(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    options.codecs(parser, ["x"], "of a, b, c")
    assert parsed(parser, "--codecs", *words).codecs == ["a", "b", "c"]
    assert parsed(parser).codecs == ["x"]


def test_a_list_of_nothing_or_of_a_wrong_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", action=options.Listed, each=int)
    with pytest.raises(SystemExit):
        parsed(parser, "--bytes", ",")
    assert "argument --bytes: at least one word expected" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parsed(parser, "--bytes", "50,many")
    assert "argument --bytes: invalid literal for int() with base 10: 'many'" in capsys.readouterr().err


def test_an_old_name_says_the_new_one_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="semhier")
    options.images(parser, required=False)
    options.renamed(parser, names="--split", max_bytes="--bytes")
    for words, line in (
        (("--names", "a.txt"), "semhier: error: --names has another name now: --split"),
        (("--max-bytes", "3"), "semhier: error: --max-bytes has another name now: --bytes"),
    ):
        with pytest.raises(SystemExit):
            parsed(parser, *words)
        assert capsys.readouterr().err.splitlines()[-1] == line
    assert "--names" not in parser.format_help()


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        (options.whole(0, 8), "9", "'9', a whole number from 0 to 8 expected"),
        (options.whole(0, 8), "1.5", "'1.5', a whole number from 0 to 8 expected"),
        (options.real(0, 1), "nan", "'nan', a number from 0 to 1 expected"),
        (options.real(0, 1), "-1", "'-1', a number from 0 to 1 expected"),
    ],
)
def test_numbers_outside_their_range_are_refused(kind: object, text: str, line: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        kind(text)  # type: ignore[operator]
    assert str(raised.value) == line


def test_every_command_has_the_same_default_device() -> None:
    parser = argparse.ArgumentParser()
    options.device(parser)
    assert parsed(parser).device == "auto"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--out", "file"), "--out file: is a file; a folder is written"),
        (("--out", "file/sub"), "--out file/sub: file/sub cannot be made (Not a directory)"),
        (("--json", "folder"), "--json folder: is a folder; a file is written"),
        (("--json", "/proc/nowhere/x.json"), "--json /proc/nowhere/x.json: /proc/nowhere cannot be made"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    parser = argparse.ArgumentParser()
    options.out(parser, "made/here", "a folder")
    options.json(parser)
    with pytest.raises(CommandError) as raised:
        options.check_outputs(parsed(parser, *words))
    assert str(raised.value).startswith(line)
    assert (tmp_path / "file").read_text() == "hello"


def test_folders_for_what_is_written_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    options.out(parser, "made/here", "a folder")
    options.json(parser)
    options.check_outputs(parsed(parser, "--json", "other/figures.json"))
    assert (tmp_path / "made" / "here").is_dir()
    assert (tmp_path / "other").is_dir()


@pytest.mark.parametrize("written", ["truth.json", "./folder/../truth.json", "link.json"])
def test_a_file_that_is_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("truth.json").write_text("{}")
    Path("link.json").symlink_to("truth.json")
    parser = argparse.ArgumentParser()
    options.json(parser)
    options.labels(parser, "truth")
    with pytest.raises(CommandError, match=r"is what labels names; name another file"):
        options.check_outputs(parsed(parser, "--json", written, "--labels", "truth.json"))
    options.check_outputs(parsed(parser, "--json", "other.json", "--labels", "truth.json"))
