"""The thin hop over Zenoh: one key and one Zenoh priority per block index, nothing repeated or kept by Zenoh itself.

Keys: `<prefix>/<camera>/<block index>` carries packets, `<prefix>/<camera>/info` the stream information (put at every
connect and every 10 s, and queryable), `<prefix>/<camera>/request` what a receiver asks of a sender or reports to it,
`<prefix>/<camera>/note` what a sender tells a receiver beside the packets (their clocks' offset).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from semhier_ros.link.announce import Announcements, QueryTimes
from semhier_ros.link.schedule.budget import PerSecond
from semhier_ros.link.transport import (
    MAX_INFO,
    MAX_PAYLOAD,
    MAX_REQUEST,
    REQUESTS_PER_SECOND,
    Datagram,
    OnDatagram,
    OnInfo,
    OnRequest,
    OpenReceiving,
    OpenSending,
    ReceiverHooks,
    SenderHooks,
)
from semhier_ros.link.zenoh.config import ZenohOptions, check_name, is_name
from semhier_ros.link.zenoh.session import ZenohEnd

MAX_CAMERAS = 256
MESSAGES_PER_SECOND = 400
"""Reports and requests together that a measured link looks at."""
_QUERY_TIMEOUT = 2.0
_REPLIES = 16
REPLIES_PER_SECOND = 8
"""Descriptions that are told to who asks, at most; a measured link has a share of its rate for them besides."""


def zenoh_priority(zenoh: Any, priority: int) -> Any:
    """Zenoh's priority for 1 (REAL_TIME) to 7 (BACKGROUND)."""
    names = ("REAL_TIME", "INTERACTIVE_HIGH", "INTERACTIVE_LOW", "DATA_HIGH", "DATA", "DATA_LOW", "BACKGROUND")
    return getattr(zenoh.Priority, names[max(1, min(priority, 7)) - 1])


class ZenohSender(ZenohEnd):
    """The sending end. Opening happens in the background; until a receiver is connected `send` drops and counts.

    `options`: where to connect. `on_request(camera, data)`: called from a thread of this object for each request of a
    receiver (at most 1,024 bytes, at most `requests_per_second`; the rest is counted). `wrap(camera, information)`:
    what is sent in the information's place (an envelope); `answer`: likewise to a receiver that asks for it, or None
    for no answer; left out, `wrap`. `on_tick(now)`: called some twenty times a second. Counters:
    sent, sent_bytes, dropped (of which dropped_unconnected), errors, connects, disconnects, info_puts, info_replies,
    queries_refused, requests, requests_refused.
    """

    def __init__(
        self,
        options: ZenohOptions,
        *,
        on_request: OnRequest | None = None,
        requests_per_second: int = REQUESTS_PER_SECOND,
        wrap: Callable[[str, bytes], bytes] | None = None,
        on_tick: Callable[[float], None] | None = None,
        answer: Callable[[str, bytes], bytes | None] | None = None,
    ) -> None:
        super().__init__(options, "semhier-zenoh-sender")
        self._on_request = on_request
        self._wrap = wrap or (lambda _camera, data: data)
        self._told = answer or self._wrap
        self._on_tick = on_tick
        self._announcements = Announcements()
        self._publishers: dict[tuple[str, int], Any] = {}
        self._publisher_lock = threading.Lock()
        self._listening: set[str] = set()
        self._requests, self._replies = PerSecond(requests_per_second), PerSecond(REPLIES_PER_SECOND)
        self._thread.start()

    def set_info(self, camera: str, info: bytes, anew: bool = True) -> None:
        """Announces `camera` with its stream information (1 to 1,024 bytes); again to replace it, told at once if
        `anew`. Needed for requests too.

        Raises ValueError for a name that cannot be part of a key, or too long information.
        """
        check_name("camera", camera)
        if not 1 <= len(info) <= MAX_INFO:
            raise ValueError(f"info must be 1 to {MAX_INFO} bytes, not {len(info)}")
        self._announcements.set(camera, bytes(info), anew)
        if anew or camera not in self._listening:
            self._wake.set()

    def send(self, datagram: Datagram) -> bool:
        """Puts one datagram under the key and priority of its coarsest block; False when dropped. Never raises."""
        session = self._session
        if session is None or not self._peers:
            with self._lock:
                self._counters["dropped"] += 1
                self._counters["dropped_unconnected"] += 1
            return False
        try:
            publisher = self._publishers.get((datagram.camera, datagram.level))
            if publisher is None:
                publisher = self._publisher(session, datagram)
            publisher.put(datagram.payload)
        except Exception as error:
            self._failed(error)
            self._count("dropped")
            return False
        with self._lock:
            self._counters["sent"] += 1
            self._counters["sent_bytes"] += datagram.wire_bytes
        return True

    def _publisher(self, session: Any, datagram: Datagram) -> Any:
        place = (datagram.camera, datagram.level)
        with self._publisher_lock:
            publisher = self._publishers.get(place)
            if publisher is None:
                zenoh = self._zenoh
                publisher = session.declare_publisher(
                    f"{self.options.prefix}/{check_name('camera', datagram.camera)}/{datagram.level}",
                    congestion_control=zenoh.CongestionControl.DROP,
                    priority=zenoh_priority(zenoh, datagram.priority),
                    express=True,
                    reliability=zenoh.Reliability.BEST_EFFORT,
                )
                self._publishers[place] = publisher
        return publisher

    def _declare(self, session: Any) -> None:
        return

    def _peer_arrived(self) -> None:
        self._announcements.restart()

    def note(self, camera: str, data: bytes) -> bool:
        """Tells the receivers of `camera` something beside its packets (1 to 1,024 bytes); False when it could not be
        sent.
        """
        return self._put(f"{self.options.prefix}/{check_name('camera', camera)}/note", data)

    def _duties(self, session: Any, now: float) -> None:
        if self._on_tick is not None:
            self._on_tick(now)
        for camera in self._announcements.cameras:
            if camera not in self._listening:
                self._listening.add(camera)
                self._listen(session, camera)
        for camera, info in self._announcements.due(now) if self._peers else ():
            session.put(
                f"{self.options.prefix}/{camera}/info",
                self._wrap(camera, info),
                congestion_control=self._zenoh.CongestionControl.DROP,
                priority=self._zenoh.Priority.INTERACTIVE_HIGH,
                express=True,
            )
            self._count("info_puts")

    def _listen(self, session: Any, camera: str) -> None:
        base = f"{self.options.prefix}/{camera}"
        self._steady_subscriber(session, f"{base}/request", lambda sample: self._request(camera, sample))
        self._steady_queryable(session, f"{base}/info", lambda query: self._answer(camera, query))

    def _answer(self, camera: str, query: Any) -> None:
        """Answers who asks for a description, at most REPLIES_PER_SECOND times: each is paid from the budget."""
        with query:
            info = self._announcements.get(camera)
            if info is None:
                return
            told = self._told(camera, info) if self._replies.take(time.monotonic()) else None
            if told is None:
                self._count("queries_refused")
                return
            query.reply(f"{self.options.prefix}/{camera}/info", told, express=True)
            self._count("info_replies")

    def _request(self, camera: str, sample: Any) -> None:
        if not 1 <= len(sample.payload) <= MAX_REQUEST or not self._requests.take(time.monotonic()):
            self._count("requests_refused")
            return
        self._count("requests")
        if self._on_request is not None:
            self._on_request(camera, sample.payload.to_bytes())


class _Known:
    """What a receiver knows of one camera: its information, when it asks next, whether its keys were shortened."""

    __slots__ = ("info", "queries", "shortened")

    def __init__(self, now: float) -> None:
        self.info: bytes | None = None
        self.shortened = False
        self.queries = QueryTimes(now)


class ZenohReceiver(ZenohEnd):
    """The receiving end, for any number of senders and up to 256 cameras.

    `on_datagram(camera, level, payload)`, `on_info(camera, info)`: called from threads of this object, for each packet
    and each arrival of stream information (also unchanged ones). A camera takes one of the 256 places with its first
    packet or information, unless the callback says False to it: whoever can tell forged ones keeps them from filling
    the table. `cameras`: names of those that are waited for, None for all; others are refused.
    A camera whose information is unknown is asked for it, at first sight and then at growing intervals of 0.3 to 5 s.
    `on_note(camera, data)`: what a sender tells beside its packets. `on_tick(now)`: some twenty times a second.
    Counters: received, received_bytes (payload), infos, queries, refused (too long, unknown key, no camera's
    name), refused_cameras (not
    waited for, or no place is left), requests, errors,
    connects, disconnects.
    """

    def __init__(
        self,
        options: ZenohOptions,
        on_datagram: OnDatagram,
        on_info: OnInfo | None = None,
        *,
        on_note: OnInfo | None = None,
        on_tick: Callable[[float], None] | None = None,
        cameras: Collection[str] | None = None,
    ) -> None:
        super().__init__(options, "semhier-zenoh-receiver")
        self._wanted = None if cameras is None else frozenset(cameras)
        self._on_datagram = on_datagram
        self._on_info = on_info
        self._on_note = on_note
        self._on_tick = on_tick
        self._known: dict[str, _Known] = {}
        self._asked: list[tuple[float, Any]] = []
        self._thread.start()

    @property
    def cameras(self) -> dict[str, bytes | None]:
        """Every camera heard of, with its stream information once known."""
        return {camera: known.info for camera, known in list(self._known.items())}

    def request(self, camera: str, data: bytes) -> bool:
        """Sends a request (1 to 1,024 bytes) to the sender of `camera`; False when it could not be sent.

        Raises ValueError for a name that cannot be part of a key, or a request of another length.
        """
        check_name("camera", camera)
        if not 1 <= len(data) <= MAX_REQUEST:
            raise ValueError(f"request must be 1 to {MAX_REQUEST} bytes, not {len(data)}")
        sent = self._put(f"{self.options.prefix}/{camera}/request", data)
        self._count("requests" if sent else "requests_dropped")
        return sent

    def _declare(self, session: Any) -> None:
        self._steady_subscriber(session, f"{self.options.prefix}/**", self._sample)

    def _duties(self, session: Any, now: float) -> None:
        if self._on_tick is not None:
            self._on_tick(now)
        for camera, known in list(self._known.items()):
            if not known.shortened:
                known.shortened = True
                self._shorten(session, camera)
            if known.info is None and known.queries.due(now):
                self._count("queries")
                # A ring forgets what it holds when the query ends, a FIFO does not.
                channel = self._zenoh.handlers.FifoChannel(_REPLIES)
                # Unconsolidated: a reply counts at once, not when the end of all replies has been heard (or was lost).
                replies = session.get(
                    f"{self.options.prefix}/{camera}/info",
                    channel,
                    consolidation=self._zenoh.ConsolidationMode.NONE,
                    timeout=_QUERY_TIMEOUT,
                )
                self._asked.append((now + _QUERY_TIMEOUT + 1.0, replies))
        for until, replies in list(self._asked):
            for _ in range(_REPLIES):
                reply = _next_reply(replies)
                if reply is None:
                    break
                if reply.ok is not None:
                    self._sample(reply.ok)
            if now > until:
                self._asked.remove((until, replies))

    def _shorten(self, session: Any, camera: str) -> None:
        """Subscribes to a camera's keys once more, idly: Zenoh then names them by a number on the wire, not by their
        text.
        """
        base = f"{self.options.prefix}/{camera}"
        self._held += [self._idle_subscriber(session, key) for key in (f"{base}/*", f"{base}/0")]

    def _sample(self, sample: Any) -> None:
        key = str(sample.key_expr)
        prefix = self.options.prefix + "/"
        camera, _, last = key[len(prefix) :].rpartition("/")
        if last == "request":
            return
        numeric = last.isascii() and last.isdigit() and len(last) <= 2 and int(last) < 16
        limit = MAX_PAYLOAD if numeric else MAX_INFO
        if (
            not key.startswith(prefix)
            or not camera
            or not (numeric or last in ("info", "note"))
            or not 1 <= len(sample.payload) <= limit
        ):
            self._count("refused")
            return
        known = self._known.get(camera)
        if known is None and not is_name(camera):
            self._count("refused")
            return
        if known is None and (
            len(self._known) >= MAX_CAMERAS or (self._wanted is not None and camera not in self._wanted)
        ):
            self._count("refused_cameras")
            return
        payload = sample.payload.to_bytes()
        if last == "note":
            if known is not None and self._on_note is not None:
                self._on_note(camera, payload)
            return
        if numeric:
            with self._lock:
                self._counters["received"] += 1
                self._counters["received_bytes"] += len(payload)
            trusted = self._on_datagram(camera, int(last), payload) is not False
        else:
            self._count("infos")
            trusted = self._on_info is None or self._on_info(camera, payload) is not False
        if not trusted:
            return
        if known is None:
            known = self._known.setdefault(camera, _Known(time.monotonic()))
            self._wake.set()
        if not numeric:
            known.info = payload


def _next_reply(replies: Any) -> Any:
    """The next reply to a query, None when there is none (yet, or any more)."""
    try:
        return replies.try_recv()
    except Exception:  # Zenoh's word for a query that is over
        return None


def sending(options: ZenohOptions) -> OpenSending:
    """Makes the Zenoh transport of a `LinkSender`."""

    def make(hooks: SenderHooks) -> ZenohSender:
        return ZenohSender(
            options,
            on_request=hooks.on_request,
            requests_per_second=MESSAGES_PER_SECOND,
            wrap=hooks.wrap,
            on_tick=hooks.on_tick,
            answer=hooks.answer,
        )

    return make


def receiving(options: ZenohOptions) -> OpenReceiving:
    """Makes the Zenoh transport of a `LinkReceiver`."""

    def make(hooks: ReceiverHooks) -> ZenohReceiver:
        return ZenohReceiver(
            options,
            hooks.on_datagram,
            hooks.on_info,
            on_note=hooks.on_note,
            on_tick=hooks.on_tick,
            cameras=hooks.cameras,
        )

    return make
