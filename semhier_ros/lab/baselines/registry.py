"""Which streams there are, and how one is made with its best setting for a link."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

from semhier_ros.command import CommandError
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.streams.base import Camera, Costs, Stream
from semhier_ros.link.emulate.profile import LinkProfile

CODECS = ("semhier", "answer", "jpeg", "webp", "h264")
"""What `--codecs` may name."""


class StreamError(CommandError, ValueError):
    """A codec that is not known or cannot run here; the message says why and what to do."""


def check_codecs(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, each known and able to run here. Raises StreamError."""
    for name in names:
        if name not in CODECS:
            raise StreamError(f"codecs: {name!r}, one of {', '.join(CODECS)} expected")
        if name == "h264" and importlib.util.find_spec("av") is None:
            raise StreamError(
                "codecs: h264 needs PyAV, whose wheel carries libx264 (GPL): pip install 'semhier_ros[video]'"
            )
    if not names:
        raise StreamError(f"codecs: none, one or more of {', '.join(CODECS)} expected")
    return tuple(dict.fromkeys(names))


def make_stream(
    name: str,
    reader: Reader,
    costs: Costs,
    cameras: Sequence[Camera],
    link: LinkProfile,
    rate: float,
    *,
    max_rate: float = 0.0,
    finest: int | None = None,
    finalists: int = 3,
    progress: Callable[[float], None] | None = None,
) -> Stream:
    """The stream `name` for `cameras` over `link` with a budget of `rate` wire bytes per second.

    semhier and answer have nothing to choose; for jpeg, webp and h264 a search in virtual time finds the setting with
    the best streaming average precision (`search.py`). Raises StreamError.
    """
    check_codecs([name])
    from semhier_ros.lab.streams.blocks import SemhierStream

    if name == "semhier":
        return SemhierStream(reader, costs, max_rate=max_rate, finest=finest)
    if name == "answer":
        from semhier_ros.lab.streams.answer import AnswerStream

        return AnswerStream(reader, costs, max_rate=max_rate)
    from semhier_ros.lab.baselines.search import best_stream

    return best_stream(
        name, reader, costs, cameras, link, rate, max_rate=max_rate, finalists=finalists, progress=progress
    )
