"""The receiving end of a measured link: opens envelopes, keeps the books of every stream, reports to its sender.

Transport and clock are handed in: everything happens in the transport's calls, whatever carries the datagrams.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from semhier_ros.codec.envelope import EnvelopeError, is_envelope
from semhier_ros.codec.report import CLOCK_KIND, ClockNote, Report, ReportError, lacking
from semhier_ros.link.clock import MACHINE, Clock
from semhier_ros.link.feedback.envelope import Opener, Sealer, start_of
from semhier_ros.link.feedback.report import ArrivalTracker, ReportClock
from semhier_ros.link.transport import (
    OnDatagram,
    OnGone,
    OnInfo,
    OnStored,
    OpenReceiving,
    ReceiverHooks,
    ReceivingTransport,
    waited,
)

MEMORY_SECONDS = 0.16
"""Reports name what is remembered at least so far apart: 2 bytes each are 100 bit/s."""
REPORT_AFTER = 3.0
"""Seconds after the last arrival for which reports go on."""


@dataclass(frozen=True, slots=True)
class StreamBooks:
    """What is known of one stream: datagrams `received`, `lost`, `duplicates`; `refused` (forged, replayed or no
    envelope); `loss` as a share; `clock` (None while the sender has not told it).
    """

    received: int
    lost: int
    duplicates: int
    refused: int
    loss: float
    clock: ClockNote | None


class _Stream:
    __slots__ = (
        "clock",
        "memory",
        "note",
        "opener",
        "refused",
        "reports",
        "sealer",
        "tracker",
    )

    def __init__(self, camera: str, key: bytes | None, start: int) -> None:
        self.opener = Opener(f"{camera}/packets", key)
        self.note = Opener(f"{camera}/note", key)
        self.sealer = Sealer(f"{camera}/request", key, start)
        self.tracker = ArrivalTracker(whole=key is not None)
        self.clock: ClockNote | None = None
        self.refused = 0
        self.memory: tuple[bytes | None, float] = (None, -MEMORY_SECONDS)
        self.reports = ReportClock()


class LinkReceiver:
    """Hears senders of `LinkSender`'s kind, and those without envelopes too (unless there is a key).

    `open_transport`: makes the transport (`link.zenoh.transport.receiving(options)`). `on_datagram(camera, level,
    packet)`, `on_info(camera, info)`: what came, out of its envelope; a datagram that came before is counted and not
    handed on. `key`: shared with the senders; what it does not vouch for is refused.
    `report`: whether to tell senders what arrives. `remembers(camera)`: what a report says of the memory of what was
    received (`codec.report.Report`), None for nothing; from another thread than the datagrams', too. `unread(camera)`:
    whether what came last cannot be read before the sender knows what is lacking: reports then come sooner.
    `cameras`: names of those that are waited for, None for all. `on_stored(camera, stamp, blocks)`: stored blocks that
    somebody asked for (`link.radio.store`), with their whole stamp; None: they come as datagrams.
    `on_note(camera, note)`: what a sender tells beside the packets, but for clock notes, which are kept here.
    `on_gone(camera, frame)`: blocks of a frame that was asked for do not come; only a radio says so.
    With a key a camera gets one of the 256 places with the first message that the key vouches for. `counters` adds:
    refused_envelopes, refused_notes, duplicates, reports, reports_failed (the transport raised).
    """

    def __init__(
        self,
        open_transport: OpenReceiving,
        on_datagram: OnDatagram,
        on_info: OnInfo | None = None,
        *,
        key: bytes | None = None,
        report: bool = True,
        remembers: Callable[[str], bytes | None] | None = None,
        unread: Callable[[str], bool] | None = None,
        cameras: Collection[str] | None = None,
        on_stored: OnStored | None = None,
        on_note: OnInfo | None = None,
        on_gone: OnGone | None = None,
        clock: Clock = MACHINE,
    ) -> None:
        self._key = key
        self._on_note = on_note
        self._report, self._remembers, self._unread = report, remembers, unread
        self._clock = clock
        self._on_datagram = on_datagram
        self._on_info = on_info
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._infos: dict[str, Opener] = {}
        self._counts: Counter[str] = Counter()
        self._inner = open_transport(
            ReceiverHooks(self._datagram, self._info, self._note, self._tick, cameras, on_stored, remembers, on_gone)
        )

    def request(self, camera: str, data: bytes) -> bool:
        """Asks the sender of `camera` for something (`ReceivingTransport.request`)."""
        return self._inner.request(camera, self._sealed(camera, data))

    def books(self, camera: str) -> StreamBooks | None:
        """What is known of a stream, None before its first datagram."""
        with self._lock:
            stream = self._streams.get(camera)
            if stream is None:
                return None
            tracker = stream.tracker
            return StreamBooks(
                tracker.received, tracker.lost, tracker.duplicates, stream.refused, tracker.loss, stream.clock
            )

    @property
    def cameras(self) -> dict[str, bytes | None]:
        """Every camera that has a place (`ReceivingTransport.cameras`)."""
        return self._inner.cameras

    @property
    def connected(self) -> bool:
        """Whether a sender is there."""
        return self._inner.connected

    @property
    def open(self) -> bool:
        """Whether the session is open."""
        return self._inner.open

    @property
    def trouble(self) -> str:
        """Why the session cannot open now and what to do, in a line; empty when nothing is wrong."""
        return self._inner.trouble

    @property
    def transport(self) -> ReceivingTransport:
        """What carries it."""
        return self._inner

    def wait_connected(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for a sender; for tests and tools."""
        return waited(lambda: self.connected, timeout)

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        with self._lock:
            return {**self._inner.counters, **self._counts}

    def close(self) -> None:
        """Closes the session; a second call does nothing."""
        self._inner.close()

    def __enter__(self) -> LinkReceiver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _stream(self, camera: str) -> _Stream:
        """The stream's books, or new ones that are kept once something of the stream is to be believed."""
        return self._streams.get(camera) or _Stream(camera, self._key, start_of(self._clock.wall()))

    def _datagram(self, camera: str, level: int, data: bytes) -> bool:
        now, wall_us = self._clock.now(), self._wall_us()
        if self._key is None and not is_envelope(data):
            self._on_datagram(camera, level, data)
            return True
        with self._lock:
            stream = self._stream(camera)
            try:
                opened = stream.opener.open(data)
            except EnvelopeError:
                stream.refused += 1
                self._counts["refused_envelopes"] += 1
                return False
            self._streams[camera] = stream
            if not stream.tracker.arrived(opened.sequence, opened.sent_ms, len(data), now, wall_us):
                self._counts["duplicates"] += 1
                return True
        self._on_datagram(camera, level, opened.payload)
        return True

    def _info(self, camera: str, data: bytes) -> bool:
        if self._key is not None:
            with self._lock:
                opener = self._infos.get(camera) or Opener(f"{camera}/info", self._key)
                try:
                    data = opener.open(data).payload
                except EnvelopeError:
                    self._counts["refused_envelopes"] += 1
                    return False
                self._infos[camera] = opener
        if self._on_info is not None:
            self._on_info(camera, data)
        return True

    def _note(self, camera: str, data: bytes) -> None:
        with self._lock:
            stream = self._streams.get(camera)
            try:
                if self._key is not None:
                    if stream is None:
                        return
                    data = stream.note.open(data).payload
                told = data[:1] != bytes((CLOCK_KIND,))
                if not told and stream is not None:
                    stream.clock = ClockNote.from_bytes(data)
            except (EnvelopeError, ReportError):
                self._counts["refused_notes"] += 1
                return
        if told and self._on_note is not None:
            self._on_note(camera, data)
        elif told:
            self._counts["refused_notes"] += 1

    def _sealed(self, camera: str, data: bytes) -> bytes:
        if self._key is None:
            return data
        with self._lock:
            stream = self._streams.setdefault(camera, self._stream(camera))
            return stream.sealer.seal(data, self._wall_us() // 1000)[0]

    def _tick(self, now: float) -> None:
        if not self._report:
            return
        due: list[tuple[str, Report]] = []
        with self._lock:
            for camera, stream in self._streams.items():
                tracker = stream.tracker
                told = stream.memory[0]
                if self._unread is not None and self._unread(camera):
                    stream.reports.press(now)
                elif told and told != lacking(told) and tracker.overdue(now):
                    stream.reports.press(now, once=True)
                if not tracker.heard or not stream.reports.due(now) or tracker.silence(now) > REPORT_AFTER:
                    continue
                stream.reports.reported(tracker.payload_bytes, now)
                due.append((camera, replace(tracker.report(now, self._wall_us()), memory=self._memory(camera, now))))
        for camera, report in due:
            try:
                sent = self._inner.request(camera, self._sealed(camera, report.to_bytes()))
            except Exception:  # one camera's must not cost the others theirs
                with self._lock:
                    self._counts["reports_failed"] += 1
                continue
            if sent:
                with self._lock:
                    self._counts["reports"] += 1

    def _memory(self, camera: str, now: float) -> bytes | None:
        """What the camera's report says of memory now: news, and not too often."""
        stream = self._streams[camera]
        memory = None if self._remembers is None else self._remembers(camera)
        if memory and stream.tracker.overdue(now):
            memory = lacking(memory)
        told, at = stream.memory
        if memory is None or (memory == told and memory) or now - at < MEMORY_SECONDS - 0.02:
            return None
        stream.memory = (memory, now)
        return memory

    def _wall_us(self) -> int:
        return int(self._clock.wall() * 1e6)
