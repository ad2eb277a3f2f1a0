"""`semhier link …`: the thin link's tools for the command line."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

from semhier_ros.link.emulate.emulator import DirectionCounters, LinkEmulator
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.link.fastdds_profile import fastdds_profile
from semhier_ros.whole_file import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `semhier link` to `parser`; `run` executes what was parsed."""
    commands = parser.add_subparsers(dest="link_command", required=True, metavar="COMMAND")
    emulate = commands.add_parser(
        "emulate",
        help="a UDP relay on this machine that behaves like a thin link",
        description="Relays UDP between a listening and a forward port with the rate, delay and loss of a thin link. "
        "Let one Zenoh session listen on the forward port and the other connect to the listening port.",
    )
    emulate.add_argument(
        "--link",
        type=_link,
        default=parse_link("64kbit,50ms,5%"),
        metavar="RATE,DELAY,LOSS[,…]",
        help="rate, one-way delay, loss; then burst4, jitter10ms, queue8kB, reorder1%%, duplicate1%%, outage20s@30s, "
        "step32kbit@10s, trace=FILE (Mahimahi) "
        "(default: 64kbit,50ms,5%%)",
    )
    emulate.add_argument("--down", type=_link, metavar="LINK", help="the way back, if it differs (default: as --link)")
    emulate.add_argument("--listen", type=_port, default=7447, metavar="PORT", help="for senders (7447)")
    emulate.add_argument("--forward", type=_port, default=7448, metavar="PORT", help="of the receiver (7448)")
    emulate.add_argument("--host", default="127.0.0.1", help="address of both ports (127.0.0.1)")
    emulate.add_argument("--seed", type=int, default=None, help="of the random numbers (default: the link's, 0)")
    emulate.add_argument("--duration", type=float, default=0.0, metavar="S", help="seconds (default: until Ctrl-C)")
    emulate.add_argument("--json", metavar="OUT", help="file for counters and every datagram's times")

    emulate.set_defaults(run=_emulate)

    top = commands.add_parser(
        "top", help="every camera's link, live in this terminal", description="Shows LinkStatus of all cameras, live."
    )
    top.add_argument("--seconds", type=float, default=0.0, metavar="S", help="how long (default: until Ctrl-C)")
    top.add_argument("--once", action="store_true", help="print one table and end")
    top.set_defaults(run=_top)

    profile = commands.add_parser(
        "fastdds-profile",
        help="the Fast DDS profile that paces and prioritises level topics",
        description="Prints the XML profile for `link.transport: ros` on rmw_fastrtps_cpp: a flow controller with the "
        "budget and a priority for each block's topic.",
    )
    profile.add_argument("--cameras", nargs="+", default=["camera"], metavar="NAME", help="camera names (camera)")
    profile.add_argument("--model", default="road", help="model whose blocks are sent (road)")
    profile.add_argument("--budget-kbit", type=float, default=1000.0, metavar="K", help="kbit/s of one process (1000)")
    profile.add_argument("--out", metavar="FILE", help="file to write (default: printed)")
    profile.set_defaults(run=_fastdds_profile)


def run(options: argparse.Namespace) -> int:
    """Executes what `add_arguments` parsed; returns the exit status."""
    return int(options.run(options))


def _top(options: argparse.Namespace) -> int:
    # The one line by which this room knows of nodes: rclpy is imported only for this command.
    return int(importlib.import_module("semhier_ros.nodes.link_top").run(options))


def _fastdds_profile(options: argparse.Namespace) -> int:
    codec = importlib.import_module("semhier_ros.api").Codec.load(options.model, "cpu")
    try:
        text = fastdds_profile(options.cameras, codec.block_names, codec.semantic_blocks, options.budget_kbit)
    except ValueError as error:
        print(f"semhier link fastdds-profile: {error}", file=sys.stderr)
        return 2
    if options.out is None:
        print(text, end="")
    else:
        write_whole(Path(options.out), text)
    return 0


def _emulate(options: argparse.Namespace) -> int:
    up: LinkProfile = options.link
    down: LinkProfile = options.down or options.link
    if options.seed is not None:
        up, down = (_seeded(profile, options.seed) for profile in (up, down))
    try:
        emulator = LinkEmulator(
            up,
            down,
            listen_port=options.listen,
            forward_port=options.forward,
            host=options.host,
            keep_log=options.json is not None,
        )
    except OSError as error:
        print(f"semhier link emulate: {error}", file=sys.stderr)
        return 1
    finished = threading.Event()

    def finish(_signal: int, _frame: FrameType | None) -> None:
        finished.set()

    previous = {number: signal.signal(number, finish) for number in (signal.SIGINT, signal.SIGTERM)}
    live = sys.stderr.isatty()
    print(
        f"link emulator: {options.host}:{emulator.listen_port} -> {options.host}:{options.forward} (udp), Ctrl-C ends",
        file=sys.stderr,
        flush=True,
    )
    try:
        with emulator:
            last = emulator.up, emulator.down
            while not finished.wait(1.0 if not options.duration else min(1.0, options.duration)):
                now = emulator.up, emulator.down
                if live:
                    print("\r\x1b[K" + _line(emulator.elapsed, last, now), end="", file=sys.stderr, flush=True)
                last = now
                if options.duration and emulator.elapsed >= options.duration:
                    break
            if options.json is not None:
                emulator.write_json(options.json)
            summary = _summary(emulator)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if live:
        print(file=sys.stderr)
    print(summary)
    return 0


def _line(
    elapsed: float,
    last: tuple[DirectionCounters, DirectionCounters],
    now: tuple[DirectionCounters, DirectionCounters],
) -> str:
    parts = [f"{elapsed:6.0f} s"]
    for name, before, after in zip(("up", "down"), last, now, strict=True):
        kbit = (after.delivered_bytes - before.delivered_bytes) * 8 / 1000
        parts.append(f"{name} {kbit:7.1f} kbit/s, lost {after.dropped_loss}, queue {after.dropped_queue}")
    return " | ".join(parts)


def _summary(emulator: LinkEmulator) -> str:
    parts = []
    for name, counters in (("up", emulator.up), ("down", emulator.down)):
        parts.append(
            f"{name}: {counters.offered} datagrams, {counters.offered_bytes} bytes offered; "
            f"{counters.delivered} delivered; lost {counters.dropped_loss}, queue {counters.dropped_queue}, "
            f"outage {counters.dropped_outage}"
        )
    return "\n".join(parts)


def _seeded(profile: LinkProfile, seed: int) -> LinkProfile:
    return replace(profile, seed=seed)


def _link(text: str) -> LinkProfile:
    try:
        return parse_link(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"port must be 0 to 65535, not {text!r}")
    return int(text)


def main() -> int:
    """`python -m semhier_ros.link.cli emulate …`, for use without the `semhier` command."""
    parser = argparse.ArgumentParser(prog="semhier link")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
