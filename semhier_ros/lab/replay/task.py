"""What a replay is asked for, and the options that say so: those of `semhier replay` and `semhier sweep` alike."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import FOOT_SUFFIX
from semhier_ros.codec.model_folder import read_kind
from semhier_ros.command import CommandError, for_the_user
from semhier_ros.lab.replay.base import Costs
from semhier_ros.lab.replay.store import CACHE_FILE, default_folder
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.emulate.radio import RADIOS, RadioLink, RadioProfile, parse_hop
from semhier_ros.paths import DEFAULT_MODEL, find_model

CODECS = ("semhier", "answer", "jpeg", "webp", "h264")
"""What `--codecs` may name."""
FINALISTS = 3
BUDGET_SHARE = 0.97
"""What of the link's rate a sender plans with: the rest is for the transport's own messages, which no budget counts."""
LINK = "64kbit,50ms,5%"
LINK_HELP = "rate, one-way delay, loss, then burst4, jitter10ms, queue8kB, outage20s@30s, step32kbit@10s, seed3; "
LINK_HELP += f"or a radio, {', '.join(RADIOS)}, with changes (docs/radios.md)"
LINK_OF = {"zenoh": LINK, "serial": "serial9600", "udp": "udp64", "mavlink": "mavlink57600"}
"""The link that is taken for a transport where none is named."""


class StreamError(CommandError, ValueError):
    """A codec that is not known or cannot run here; the message says why and what to do."""


def check_codecs(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, each known and able to run here. Raises StreamError."""
    for name in names:
        if name not in CODECS:
            raise StreamError(f"codecs: {name!r}, one of {', '.join(CODECS)} expected")
        if name == "h264" and importlib.util.find_spec("av") is None:
            raise StreamError("codecs: h264 needs PyAV, whose wheel carries libx264 (GPL): pip install av")
    if not names:
        raise StreamError(f"codecs: none, one or more of {', '.join(CODECS)} expected")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for. `link` in words; `costs` None: measured here; `labels` None: agreement. `finalists`: how many
    picture settings are judged on every picture that arrives (1 to 20).
    `forecast`: every codec's readings are also foretold to each instant, and scored. `motion`: our stream says how
    camera and objects move. `memory`: it refers to what its receiver acknowledged. `ground`: the camera's height in
    metres and how many degrees it looks down, None where nobody says it; `lens`: its focal lengths and centre in
    pixels of its own pictures, None where the footage says them: for the report's view from above."""

    bags: tuple[Path, ...]
    link: str
    codecs: tuple[str, ...]
    model: str = DEFAULT_MODEL
    device: str = "cpu"
    topics: tuple[str, ...] = ()
    labels: Path | None = None
    costs: Costs | None = None
    max_rate: float = 0.0
    finest: int | None = None
    seconds: float | None = None
    frame_rate: float | None = None
    finalists: int = FINALISTS
    forecast: bool = True
    motion: bool = False
    memory: bool = False
    cache: Path | None = None
    ground: tuple[float, float] | None = None
    lens: tuple[float, float, float, float] | None = None

    @property
    def budget(self) -> float:
        """Wire bytes per second that a sender plans with."""
        return parse_hop(self.link).rate_at(0.0) / 8 * BUDGET_SHARE


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `task_of` reads, but for link and model."""
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="MCAP or SQLite3 bags, or videos")
    parser.add_argument("--topics", action=shared.Listed, default=[], metavar="TOPIC", help="image topics (all)")
    shared.device(parser)
    shared.codecs(parser, CODECS[:-1], f"of {', '.join(CODECS)}; h264 needs PyAV")
    shared.labels(parser, "a folder of YOLO files, a COCO file, or a topic of the bag (none: agreement)", False)
    add_costs(parser, "then the same seed gives the same summary.json (measured here)")
    parser.add_argument("--seconds", type=shared.real(1e-3, 1e6), metavar="S", help="only so much of each camera (all)")
    said = "of a video: at most so many frames a second (all)"
    shared.option(parser, "--fps", shared.real(1e-3, 1e3), None, said, "HZ")
    shared.option(parser, "--max-rate", shared.real(0, 1000), 0.0, "frames a second that are encoded; 0: all", "HZ")
    said = "last block that is sent (the model's last)"
    shared.option(parser, "--finest", shared.whole(0, 15), None, said, "BLOCK")
    shared.option(parser, "--finalists", shared.whole(1, 20), FINALISTS, "picture settings judged in full", "N")
    for name, default, said in (
        ("--forecast", "on", "score every codec's readings foretold to each instant too"),
        ("--motion", "off", "our stream says how camera and objects move"),
    ):
        said += ", see docs/living.md (%(default)s)"
        parser.add_argument(name, choices=("on", "off"), default=default, help=said)
    said = "how the camera is mounted: metres above the ground, degrees that it looks down; the report then shows "
    said += "objects from above, with errors in metres"
    _numbers(parser, "--ground", "HEIGHT[,DOWN]", (0.01, -89.0), (10_000.0, 89.0), 1, said)
    said = "focal lengths and centre of the camera in pixels of its own pictures, for --ground (the bag's CameraInfo)"
    _numbers(parser, "--lens", "FX,FY,CX,CY", (1.0, 1.0, -1e5, -1e5), (1e5,) * 4, 4, said)
    parser.add_argument("--memory", action="store_true", help="semhier says only what its receiver would get wrong")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="what was computed before (~/.cache/semhier_ros)")
    parser.add_argument("--no-cache", action="store_true", help="remember nothing beyond this run")


def add_costs(parser: argparse.ArgumentParser, follows: str) -> None:
    """`--costs`: a `Costs`, or None where what computing takes is measured. follows: what comes of giving them, and
    the default."""
    said = "what computing takes, in ms: semantic, picture, read, detect, jpeg, webp, h264, unpack; `given` for the "
    shared.option(parser, "--costs", _costs, None, f"{said}documented figures; {follows}", "NAME=MS,…")


def _numbers(
    parser: Any, name: str, form: str, low: Sequence[float], high: Sequence[float], least: int, said: str
) -> None:
    """An option of numbers between commas, `least` of them at least; what is left out is 0."""

    def read(text: str) -> tuple[float, ...]:
        try:
            found = [float(part) for part in text.split(",")]
        except ValueError:
            found = []
        if not least <= len(found) <= len(low):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {form}")
        found += [0.0] * (len(low) - len(found))
        for value, lower, upper in zip(found, low, high, strict=True):
            if not lower <= value <= upper:
                raise argparse.ArgumentTypeError(f"{text!r}: {value:g}, expected {form}, {lower:g} to {upper:g}")
        return tuple(found)

    shared.option(parser, name, read, None, said, form)


def _costs(text: str) -> Costs | None:
    try:
        return None if text == "measured" else Costs.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


BLOCKS = ("semhier", "answer")
"""Codecs that send blocks, which alone have a form for radios."""


def carried(codecs: Sequence[str], link: str) -> tuple[str, ...]:
    """`codecs` as far as they can go over the link; all that were named, or an error. Raises CommandError."""
    names = check_codecs(codecs)
    if not isinstance(parse_hop(link), RadioLink):
        return names
    if names == CODECS[:-1]:  # nobody named any
        return BLOCKS
    for name in names:
        if name not in BLOCKS:
            raise CommandError(f"--codecs: {name} does not go over a radio, {' and '.join(BLOCKS)} do")
    return names


def hop_of(text: str) -> LinkProfile:
    """The link or radio that `--link` names. Raises CommandError."""
    with for_the_user(ValueError, of="--link"):
        return parse_hop(text)


def radio_of(text: str) -> RadioProfile | None:
    """The radio that `--link` names, None for another link. Raises CommandError."""
    hop = hop_of(text)
    return hop.radio if isinstance(hop, RadioLink) else None


def check_transport(wanted: str | None, link: str, radio: RadioProfile | None) -> None:
    """Raises CommandError where over a link another transport speaks than the one that is `wanted`, of LINK_OF."""
    speaks = "zenoh" if radio is None else "udp" if radio.datagrams else radio.transport
    if wanted not in (None, speaks):
        said = f"over {link} {speaks} speaks; leave --link out for {LINK_OF[wanted]}"
        raise CommandError(f"--transport {wanted}: {said}")


def sent_by_nodes(model: str) -> str:
    """The stream of that model that the encoder node sends unless it is told otherwise, as a model's name: with foot
    bits, where it finds objects. Raises CommandError."""
    plain = model.removesuffix(FOOT_SUFFIX)
    with for_the_user(OSError, ValueError):
        return plain if read_kind(find_model(plain)) == "whole-image" else plain + FOOT_SUFFIX


def task_of(options: argparse.Namespace, link: str, model: str) -> Task:
    """The task that the options name, over that link with that model: with foot bits where metres are asked for.
    Raises CommandError."""
    hop_of(link)
    alike = ("device", "labels", "costs", "max_rate", "finest", "memory", "seconds", "finalists", "ground", "lens")
    return Task(
        bags=tuple(options.bags),
        link=link,
        codecs=carried(options.codecs, link),
        model=model if options.ground is None else sent_by_nodes(model),
        topics=tuple(options.topics),
        forecast=options.forecast == "on",
        motion=options.motion == "on",
        frame_rate=options.fps,
        cache=None if options.no_cache else (options.cache or default_folder()) / CACHE_FILE,
        **{name: getattr(options, name) for name in alike},
    )
