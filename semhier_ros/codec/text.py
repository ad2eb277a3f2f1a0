"""Which characters a name that travels may have: the same ones whatever version of Unicode a Python knows."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u2064\u2066-\u206f\u3000\ud800-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd"
    "\U00100000-\U0010fffd]"
)
"""What Unicode 15 puts into the categories Cc, Cf, Cs, Co, Zl, Zp and Zs, but for the space (docs/bitstream.md,
"StreamInfo"). A fixed list, for a Python asked instead answers by its own version of Unicode: two ends would differ."""


def check_text(text: str, field: str, most: int) -> None:
    """Raises ValueError, naming `field`, for text that is not at most `most` bytes of printable UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{field}: {text!r} is not valid Unicode") from None
    if size > most:
        raise ValueError(f"{field}: {text!r} of {size} bytes, expected at most {most} bytes of UTF-8")
    if (found := _UNPRINTABLE.search(text)) is not None:
        raise ValueError(f"{field}: {text!r} has U+{ord(found[0]):04X}, expected printable characters")
