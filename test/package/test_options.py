"""Options that commands share."""

from __future__ import annotations

import argparse

import pytest

from semhier_ros import options


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
