"""Prints as JSON what a link does to frames of typical sizes: `python test/link/measure.py 64kbit,50ms,5% [SECONDS]`.

Two processes with a Zenoh session each, the emulator between them, 10 frames/s, a budget of 97 % of the link's rate.
"""

from __future__ import annotations

import json
import socket
import sys
from statistics import quantiles

from link_processes import End

from semhier_ros.link.emulate.emulator import LinkEmulator, parse_link

SIZES = (40, 10, 15, 30, 400, 900, 2000)


def main(text: str, seconds: float) -> None:
    profile = parse_link(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with (
        LinkEmulator(profile, forward_port=port) as link,
        End("receive", port) as receiver,
        End("send", link.listen_port, seconds, 10, 0.97 * profile.rate_bps / 8, *SIZES) as sender,
    ):
        sent, received = sender.events(seconds + 120), receiver.ended()
        up = link.up
    submitted = sum(event["event"] == "submit" for event in sent)
    coarse: dict[int, float] = {}
    for event in received:
        if event["event"] == "datagram" and event["first"] == 0:
            coarse.setdefault(event["frame"], 1000 * (event["at"] - event["born"]))
    pictures = {event["frame"] for event in received if event["event"] == "datagram" and event["level"] >= 4}
    cuts = quantiles(coarse.values(), n=20)
    row = {
        "link": text,
        "frames": submitted,
        "coarse_share": round(len(coarse) / submitted, 4),
        "coarse_ms": {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1), "max": round(max(coarse.values()), 1)},
        "frames_with_some_picture": round(len(pictures) / submitted, 3),
        "wire_bytes_per_s": round(up.offered_bytes / (seconds + 1)),
        "lost": up.dropped_loss,
        "dropped_by_the_links_queue": up.dropped_queue,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 20.0)
