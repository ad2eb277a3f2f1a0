"""What is wrong with a value of a node's parameter: words for its user, or None. Shared by the tables of all nodes."""

from __future__ import annotations

import re
from collections.abc import Callable

_CAMERA = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*", re.ASCII)
_TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_\-]+(/[A-Za-z0-9_\-]+)*", re.ASCII)
_ENDPOINT = re.compile(r"(udp|tcp|tls|quic|ws|unixsock-stream|serial)/\S+", re.ASCII)


def camera_problem(name: str) -> str | None:
    if len(name) <= 32 and _CAMERA.fullmatch(name):
        return None
    return "expected 1 to 32 letters, digits, `_`, and `/` between names (none before the first or after the last)"


def topic_problem(name: str) -> str | None:
    if len(name) <= 200 and _TOPIC.fullmatch(name):
        return None
    return "expected letters, digits, `_`, and `/` between names, with or without one before the first"


def topic_or_none_problem(name: str) -> str | None:
    return topic_problem(name) if name else None


def cameras_problem(names: list[str]) -> str | None:
    if not 1 <= len(names) <= 32 or len(set(names)) != len(names):
        return "expected 1 to 32 different camera names"
    return next((f"{name!r}: {wrong}" for name in names if (wrong := camera_problem(name))), None)


def models_problem(names: list[str]) -> str | None:
    return None if 1 <= len(names) <= 16 and all(names) else "expected 1 to 16 model names or folders"


def prefix_problem(prefix: str) -> str | None:
    return None if len(prefix) <= 64 and _KEY.fullmatch(prefix) else "expected 1 to 64 letters, digits, `_`, `-`, `/`"


def endpoints_problem(endpoints: list[str]) -> str | None:
    wrong = next((item for item in endpoints if item and not _ENDPOINT.fullmatch(item)), None)
    return None if wrong is None else f"{wrong!r}: expected a Zenoh endpoint such as udp/10.0.0.2:7447"


def key_problem(text: str) -> str | None:
    digits = all(letter in "0123456789abcdefABCDEF" for letter in text)
    right = not text or (digits and 32 <= len(text) <= 64 and len(text) % 2 == 0)
    return None if right else "expected 32 to 64 hexadecimal digits, for instance of `openssl rand -hex 32`, or nothing"


def zero_or_from(least: float) -> Callable[[float], str | None]:
    """A check of a number that is at least so much, or 0 for the usual."""
    return lambda value: None if value == 0 or value >= least else f"expected 0 or at least {least:g}"
