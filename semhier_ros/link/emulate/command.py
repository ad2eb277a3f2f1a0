"""Relays UDP between a listening and a forward port with the rate, delay and loss of a thin link.

Let one Zenoh session listen on the forward port and the other connect to the listening port:

    semhier link emulate --link 64kbit,50ms,5% --listen 7447 --forward 7448
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

from semhier_ros import options as shared
from semhier_ros.link.emulate.emulator import DirectionCounters, LinkEmulator
from semhier_ros.link.emulate.profile import LinkProfile, parse_link


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier link emulate`."""
    parser.add_argument(
        "--link",
        type=_link,
        default=parse_link("64kbit,50ms,5%"),
        metavar="RATE,DELAY,LOSS[,…]",
        help="rate, one-way delay, loss; then burst4, jitter10ms, queue8kB, reorder1%%, duplicate1%%, outage20s@30s, "
        "step32kbit@10s, trace=FILE (Mahimahi) (64kbit,50ms,5%%)",
    )
    parser.add_argument("--down", type=_link, metavar="LINK", help="the way back, if it differs (as --link)")
    parser.add_argument("--listen", type=_port, default=7447, metavar="PORT", help="for senders (7447)")
    parser.add_argument("--forward", type=_port, default=7448, metavar="PORT", help="of the receiver (7448)")
    parser.add_argument("--host", default="127.0.0.1", help="address of both ports (127.0.0.1)")
    parser.add_argument(
        "--seed", type=shared.whole(0, 2**32 - 1), default=None, help="of random numbers (the link's, else 0)"
    )
    parser.add_argument(
        "--seconds", type=shared.real(0, 1e9), default=0.0, metavar="S", help="how long; 0: until Ctrl-C (0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="counters and every datagram's times")
    shared.written(parser, "json", folder=False)
    shared.renamed(parser, duration="--seconds")


def run(options: argparse.Namespace) -> int:
    """Relays until the time is up or a signal comes."""
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
            while not finished.wait(1.0 if not options.seconds else min(1.0, options.seconds)):
                now = emulator.up, emulator.down
                if live:
                    print("\r\x1b[K" + _line(emulator.elapsed, last, now), end="", file=sys.stderr, flush=True)
                last = now
                if options.seconds and emulator.elapsed >= options.seconds:
                    break
            if options.json is not None:
                emulator.write_json(options.json)
            summary = _summary(emulator)
    finally:
        for number, handler in previous.items():  # one more Ctrl-C, as `ros2 launch` sends it, must not undo the end
            signal.signal(number, signal.SIG_IGN if finished.is_set() else handler)
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
