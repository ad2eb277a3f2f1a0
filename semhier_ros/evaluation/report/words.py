"""Settings in words, for people."""

from __future__ import annotations

from semhier_ros.link.link_profile import LinkProfile


def rate_words(bits: float) -> str:
    """Bits per second: 64 kbit/s."""
    for scale, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits >= scale:
            return f"{bits / scale:g} {unit}"
    return f"{bits:g} bit/s"


def link_words(link: LinkProfile) -> str:
    """A link as the report names it: 64 kbit/s, 50 ms, 5 % loss."""
    parts = [rate_words(link.rate_bps) if link.rate_bps else "no limit", f"{link.delay_s * 1000:g} ms"]
    parts.append(f"{link.loss * 100:g} % loss")
    if link.burst > 1:
        parts.append(f"in bursts of {link.burst:g}")
    if link.jitter_s:
        parts.append(f"{link.jitter_s * 1000:g} ms jitter")
    return ", ".join(parts)
