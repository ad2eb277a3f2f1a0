"""Which words of a receiver are believed, and what they tell of frames that came: where a check of 16 bits is all that
proves a word, noise that the check lets through mostly says what nothing before it lets expect.

Such a word has to be said again before it counts. What is known without a byte: which frames left, and that a receiver
counts those that come, so that its count grows by what was sent between two turns.

No clock and no thread here.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import ACK, MEMORY, QUERY, Word

DOUBTED = 16
"""A word that is not believed is remembered for so many that come, right or wrong."""
COUNT_SLACK = 16
"""What a count may have grown by beyond what was sent: without a key nothing tells which of some turns a word answers,
and a network may bring a frame twice."""
FRAMES = 64
"""The frames of which anything left last: a word may tell of them."""
MOST_COUNTED = 200
"""Frames between two words over which a count modulo 256 is believed."""


class _Count(NamedTuple):
    """That of `sent` frames a receiver counted so many, modulo 256."""

    sent: int
    told: int

    def grew_to(self, count: int, sent: int) -> bool:
        """Whether a later count grew by what was sent since."""
        return 1 <= (count - self.told) % 0x100 <= sent - self.sent + COUNT_SLACK


class Belief:
    """What the receiver of one camera's frames said, and may say. Frames are named by their number (16 bits)."""

    __slots__ = ("_counted", "_doubted", "_last", "_left")

    def __init__(self) -> None:
        self._left: deque[int] = deque([0], maxlen=FRAMES)
        self._last: Word | None = None
        self._counted: _Count | None = None
        self._doubted: dict[BlockRequest | int, tuple[int, _Count]] = {}

    @property
    def counted(self) -> bool:
        """Whether the receiver has told what came since it began."""
        return self._counted is not None

    def left(self, frame: int) -> None:
        """Something of a frame left."""
        if frame not in self._left:
            self._left.append(frame)

    def begin(self) -> None:
        """The receiver knows nothing of this stream yet, so that its count begins anew."""
        self._counted = None

    def surprises(self, word: Word, sent: int) -> bool:
        """Whether a word tells what nothing before it lets expect: any request; pieces that are missing, as the store
        says; a count that did not grow by what was `sent` since the last one, as of a receiver that began anew; frames
        that did not leave lately, or of which an earlier word tells otherwise; that no memory is held any more."""
        if word.kind not in (ACK, MEMORY):
            return word.kind != QUERY
        last = self._last
        if self._counted is not None and not self._counted.grew_to(word.count, sent):
            return True
        if word.kind == MEMORY:
            return last is not None and bool(last.memory) and not word.memory
        left = {frame & 0xFF for frame in self._left}
        if any((word.frame - back) & 0xFF not in left for back in range(9) if _came(word) >> back & 1):
            return True
        if last is None or last.kind != ACK:
            return False
        later = (word.frame - last.frame) % 0x100
        return later >= 0x80 or bool(_came(last) << later & 0x1FF & ~_came(word))

    def said_again(self, word: Word, sent: int, place: int) -> bool:
        """Whether a word, the so many-th that came, goes with one that was not believed a few words ago."""
        before = self._doubted.get(_matter(word))
        if before is None or place - before[0] > DOUBTED:
            return False
        return word.kind not in (ACK, MEMORY) or before[1].grew_to(word.count, sent)

    def doubt(self, word: Word, sent: int, place: int) -> None:
        """Waits for another word that says the same."""
        self._doubted[_matter(word)] = (place, _Count(sent, word.count))
        while len(self._doubted) > DOUBTED:
            self._doubted.pop(next(iter(self._doubted)))

    def believe(self, word: Word, sent: int) -> tuple[int, int] | None:
        """Takes an acknowledgement, which answers when so many were `sent`: (came, lost) of the frames since the last
        one, None where its count tells nothing."""
        self._last = word
        self._doubted.pop(_matter(word), None)
        before, self._counted = self._counted, _Count(sent, word.count)
        if before is None:
            return None
        since, came = sent - before.sent, (word.count - before.told) % 0x100
        if not 0 < since < MOST_COUNTED or came > since:
            return None  # too long ago for a count modulo 256, or a receiver that began anew
        return came, since - came


def _matter(word: Word) -> BlockRequest | int:
    """What a second word has to be about."""
    return word.request or (ACK if word.kind == MEMORY else word.kind)


def _came(word: Word) -> int:
    """Bit k: an acknowledgement tells that of the frame k before its newest block 0 came."""
    return 1 | word.before << 1
