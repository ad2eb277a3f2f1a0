"""What a command of `semhier` raises when the user can put things right."""

from __future__ import annotations


class CommandError(Exception):
    """Something that the user can put right; its text says what and how. It comes out as one line, exit status 2."""
