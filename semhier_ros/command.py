"""What a command of `semhier` raises when the user can put things right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CommandError(Exception):
    """Something that the user can put right; its text says what and how. It comes out as one line, exit status 2."""


@contextmanager
def for_the_user(*kinds: type[Exception], of: str = "") -> Iterator[None]:
    """What is raised in it of these kinds (ValueError and OSError where none is named) becomes a CommandError of the
    same words, behind those that say what it is `of`."""
    caught = kinds or (ValueError, OSError)
    try:
        yield
    except caught as error:
        raise CommandError(f"{of}: {error}" if of else str(error)) from error
