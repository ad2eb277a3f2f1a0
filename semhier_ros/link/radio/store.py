"""Store and forward: what somebody asked for waits at its sender until the receiver has all of it (selective repeat).

Parcels (`codec.compact.parcel`) follow each other as one row of numbered pieces, of which 25 at most are under way.
With the last piece that it may send the sender gives the turn; the receiver's word says which is the first that is
missing and which of the 24 behind it came, and what is missing is sent again. Nothing is thrown away for want of an
answer: after an outage the row goes on where it stopped. A *session*, two random bytes that every proof of these frames
covers, keeps the row of a sender that began anew apart from the old one.

No thread and no clock here: `Outbox` and `Inbox` are driven by the two ends of a radio, or by a test.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from semhier_ros.codec.compact import (
    MAX_PARCEL_BYTES,
    STORED_SEQUENCES,
    STORED_WINDOW,
    stored_frame,
    stored_header,
)

STORE_BYTES = 1 << 16
"""What waits at a sender of one camera, at most."""
ASKED_TWICE = 2
"""Turns in a row without an answer before the sender grows patient."""
PATIENCE_SECONDS = (0.5, 8.0)
"""The first and the longest time between two questions that nobody answers."""

K = TypeVar("K")


@dataclass(slots=True)
class _Parcel(Generic[K]):
    key: K
    data: bytes
    cut: int = 0


@dataclass(slots=True)
class _Piece:
    data: bytes
    last: bool
    sent: bool = False
    came: bool = False


class Departure(NamedTuple):
    """What leaves next: `laid`, a frame without slot, turn and proof; whether it gives the `turn`; its `session`."""

    laid: bytes
    turn: bool
    session: int


class Outbox(Generic[K]):
    """What a sender keeps for one camera. `draw`: gives a random session (0 to 65535) whenever one begins. Counts:
    `sent` pieces, `again` of them not for the first time, `done` parcels, `dropped` parcels for want of room."""

    def __init__(self, draw: Callable[[], int], most_bytes: int = STORE_BYTES) -> None:
        self._draw, self._most = draw, most_bytes
        self._parcels: deque[_Parcel[K]] = deque()
        self._pieces: deque[_Piece] = deque()
        self._session, self._base, self._answered = draw(), 0, False
        self._asked, self._missed, self._wait_until = False, 0, float("-inf")
        self._strange: tuple[int, bool] | None = None
        self._told = 0
        """The first so many pieces under way that one word says came, and no other yet."""
        self.sent = self.again = self.done = self.dropped = 0

    # -- in -----------------------------------------------------------------------------------------------------------

    def put(self, key: K, data: bytes) -> bool:
        """Stores a parcel; what was stored under that key already stays. When there is no room, the oldest goes of
        which nothing was sent; False when that does not help."""
        if any(one.key == key for one in self._parcels):
            return True
        if not 1 <= len(data) <= MAX_PARCEL_BYTES:
            return False
        fresh = [one for one in self._parcels if not one.cut]
        while self.bytes + len(data) > self._most and fresh:
            self._parcels.remove(fresh.pop(0))
            self.dropped += 1
        if self.bytes + len(data) > self._most:
            self.dropped += 1
            return False
        self._parcels.append(_Parcel(key, data))
        return True

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(len(one.data) for one in self._parcels)

    @property
    def waiting(self) -> bool:
        """Whether something is not acknowledged yet."""
        return bool(self._parcels)

    @property
    def session(self) -> int:
        """That of the pieces that leave now."""
        return self._session

    def heard(self, first: int, came: int, fresh: bool, short: bool = False) -> bool:
        """A word of the receiver in this session: all pieces before number `first` (modulo 128) came, and of those
        behind it the bits of `came` say it. `fresh`: nothing came before. `short`: 16 bits are all that proves it.

        False while another word has to say so too. Where it cannot be (pieces came that never left, or those did not
        that had), the ends have gone apart after two such words in a row of one first piece, and a new session begins.
        Of a `short` word only what leaves again is believed at once; forgotten is what two in a row say came, or one
        that says that all did."""
        ahead, told, under_way = (first - self._base) % STORED_SEQUENCES, came << 1, len(self._pieces)
        behind = islice(self._pieces, ahead, None)
        lost = not short and any(piece.came and not told >> place & 1 for place, piece in enumerate(behind))
        if lost or fresh != (self._base + ahead == 0) or ahead + told.bit_length() > under_way:
            before, self._strange = self._strange, (first, fresh)
            if before != self._strange:
                return False
            self._begin_anew()
            return True
        self._strange = None
        self._answered, self._asked = True, False
        self.resume(float("-inf"))
        settled = ahead if not short or ahead == under_way else min(ahead, self._told)
        for _ in range(settled):
            piece = self._pieces.popleft()
            self._base += 1
            if piece.last:
                self._parcels.popleft()
                self.done += 1
        self._told = ahead - settled
        for place, piece in enumerate(self._pieces):
            place -= self._told
            piece.sent = piece.came = place < 0 or bool(told >> place & 1)
        return not short or settled > 0 or ahead == under_way

    def resume(self, now: float) -> None:
        """Somebody is there: what waits need not wait longer for an answer to be worth a try than until `now`."""
        self._missed = 0
        self._wait_until = min(self._wait_until, now)

    # -- out ----------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> float | None:
        """When something may leave, not before `now`; None while nothing waits."""
        if not self.waiting:
            return None
        return max(now, self._wait_until)

    def size(self, limit: int) -> int:
        """An upper bound of the bytes that `take` gives now."""
        return stored_header(True) if self._asked else limit

    def take(self, now: float, limit: int) -> Departure | None:
        """What leaves at `now`, of at most `limit` bytes; None when nothing may.

        After a turn, `given` is to be called."""
        if not self.waiting or now < self._wait_until:
            return None
        if self._asked:  # the answer stayed away
            self._missed += 1
            return self._question()
        for place, piece in enumerate(self._pieces):
            if not piece.sent:
                self.again += 1
                return self._leave(place, piece)
        fresh = self._cut(limit - stored_header(not self._answered))
        if fresh is None:  # all is under way
            return self._question()
        self._pieces.append(fresh)
        return self._leave(len(self._pieces) - 1, fresh)

    def given(self, until: float) -> None:
        """The turn was given with what was taken last: an answer is there by `until`, or stays away."""
        self._asked = True
        shortest, longest = PATIENCE_SECONDS
        late = min(self._missed - ASKED_TWICE, 16)  # a peer may be gone for days
        self._wait_until = until + (0.0 if late < 0 else min(shortest * 2.0**late, longest))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _question(self) -> Departure:
        """Which pieces are missing; tells the session, so that one who knows nothing of it can say so."""
        laid = stored_frame(self._base + len(self._pieces), b"", False, self._session)
        return Departure(laid, True, self._session)

    def _leave(self, place: int, piece: _Piece) -> Departure:
        piece.sent = True
        self.sent += 1
        more = any(not one.sent for one in self._pieces) or self._more()
        laid = stored_frame(self._base + place, piece.data, piece.last, None if self._answered else self._session)
        return Departure(laid, not more, self._session)

    def _more(self) -> bool:
        """Whether a further piece may be cut."""
        return len(self._pieces) - self._told < STORED_WINDOW and any(one.cut < len(one.data) for one in self._parcels)

    def _cut(self, room: int) -> _Piece | None:
        if not self._more():
            return None
        one = next(one for one in self._parcels if one.cut < len(one.data))
        rest = len(one.data) - one.cut
        step = -(-rest // -(-rest // room))  # pieces of one size: a last one of a few bytes costs as much as any
        data = one.data[one.cut : one.cut + step]
        one.cut += len(data)
        return _Piece(data, one.cut == len(one.data))

    def _begin_anew(self) -> None:
        """A new session: what is not acknowledged whole is sent from its beginning."""
        self._session, self._base, self._answered = self._draw(), 0, False
        self._pieces.clear()
        for one in self._parcels:
            one.cut = 0
        self._asked, self._strange, self._told = False, None, 0
        self.resume(float("-inf"))


class Inbox:
    """What a receiver keeps of one camera's parcels: pieces that came too early (24 at most) and the beginning of one
    parcel. Counts: `duplicates`, `dropped` (parcels longer than any)."""

    def __init__(self) -> None:
        self.session: int | None = None
        self._base = 0
        self._pieces: dict[int, tuple[bytes, bool]] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self.duplicates = self.dropped = 0

    def take(self, session: int, number: int, last: bool, data: bytes) -> list[bytes]:
        """The parcels that a piece (`number` modulo 128) completes, in order. A session that is not the one known
        begins a new row; without data it is only a question."""
        if session != self.session:
            self.session, self._base = session, 0
            self._pieces, self._parts, self._size = {}, [], 0
        if not data:
            return []
        ahead = (number - self._base) % STORED_SEQUENCES
        if ahead >= STORED_WINDOW or self._base + ahead in self._pieces:
            self.duplicates += 1
            return []
        self._pieces[self._base + ahead] = (data, last)
        whole = []
        while self._base in self._pieces:
            part, ends = self._pieces.pop(self._base)
            self._base += 1
            self._size += len(part)
            if self._size <= MAX_PARCEL_BYTES:
                self._parts.append(part)
            if ends:
                if self._size <= MAX_PARCEL_BYTES:
                    whole.append(b"".join(self._parts))
                else:
                    self.dropped += 1
                self._parts, self._size = [], 0
        return whole

    @property
    def missing(self) -> tuple[int, int, bool]:
        """(the first that is missing, modulo 128; which of the 24 behind it came, as bits; whether nothing came)."""
        came = sum(1 << place - self._base - 1 for place in self._pieces)
        return self._base % STORED_SEQUENCES, came, self._base == 0
