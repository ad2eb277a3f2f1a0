"""What both ends of a Zenoh link share: a session that opens in the background, duties, and counters."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from semhier_ros.link.transport import waited
from semhier_ros.link.zenoh.config import ZenohOptions, opening_trouble, zenoh_module

_TICK = 0.05
_RING = 256
_RENEWALS = (0.3, 1.0, 2.5, 6.0)
_RENEW_EVERY = 60.0


class RenewedDeclaration:
    """A declaration that survives loss: Zenoh sends each once, and over UDP that datagram can be lost for good.

    Zenoh names the keys it has declared by numbers, which a later declaration of the same key uses without its text; so
    only a key that starts with a wildcard is sent with its text each time. Two equivalent spellings are therefore
    declared beside the real one and renewed in turn: 0.3, 1, 2.5 and 6 s after each arrival of a peer, then every 60 s.
    While one is renewed, the other stands. Nobody listens to them: what arrives goes to the real declaration too.

    `declare(key)`: declares the idle twin of the real declaration under that key and returns it.
    """

    def __init__(self, key: str, declare: Callable[[str], Any]) -> None:
        first, _, rest = key.partition("/")
        self._keys = (f"{first}$*/{rest}", f"$*{first}/{rest}")
        self._declare = declare
        self._held: list[Any] = [None, None]
        self._turn = 0
        self._step = 0
        self._due = 0.0
        self._peer_since = 0.0

    def restart(self, now: float) -> None:
        """A peer arrived at `now`: the renewals begin anew."""
        self._peer_since = now
        self._step = 0
        self._due = now + _RENEWALS[0]

    def renew(self, now: float) -> None:
        """Renews one of the two spellings if it is due."""
        if now < self._due:
            return
        self._step += 1
        if self._step < len(_RENEWALS):
            self._due = self._peer_since + _RENEWALS[self._step]
        else:
            self._due = now + _RENEW_EVERY
        turn, self._turn = self._turn, 1 - self._turn
        old, self._held[turn] = self._held[turn], None
        if old is not None:
            old.undeclare()
        self._held[turn] = self._declare(self._keys[turn])


class ZenohEnd:
    """One end: a thread opens the session (for ever, every `options.retry` seconds) and then does periodic duties.

    Whatever arrives is handed over by Zenoh in ring buffers (`_RING` entries, the oldest gives way) and handled in
    Python threads of this object, which `close` joins: no thread of Zenoh ever runs Python code.

    Subclasses give `_declare(session)` (once, after opening) and `_duties(session, now)` (about twenty times a second).
    Both run in that thread; their exceptions are counted (`errors`, text in `last_error`) and never end it.
    `trouble`: why the session cannot open now and what to do, as `opening_trouble` says; empty when nothing is wrong.
    """

    def __init__(self, options: ZenohOptions, name: str) -> None:
        self.options = options
        self._zenoh = zenoh_module()
        self._session: Any = None
        self._held: list[Any] = []
        self._peers: set[str] = set()
        self._renewed: list[RenewedDeclaration] = []
        self._counters: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.last_error = ""
        self.trouble = ""
        self._name = name
        self._servers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # -- for users ----------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether at least one other end holds a session with this one now."""
        return bool(self._peers)

    @property
    def open(self) -> bool:
        """Whether the session is open (it may have no peer yet)."""
        return self._session is not None

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start."""
        with self._lock:
            return dict(self._counters)

    def wait_connected(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for a peer; whether there is one. For tests and tools, not for nodes."""
        return waited(lambda: self.connected, timeout)

    def close(self) -> None:
        """Ends the session and its thread; a second call does nothing."""
        self._closing.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10.0)

    def __enter__(self) -> ZenohEnd:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def _declare(self, session: Any) -> None:
        raise NotImplementedError

    def _duties(self, session: Any, now: float) -> None:
        raise NotImplementedError

    def _peer_arrived(self) -> None:
        """Called when a session to another end opened."""

    def _steady_subscriber(self, session: Any, key: str, action: Callable[[Any], None]) -> None:
        """Declares a subscriber for remote samples, renewed as `RenewedDeclaration` says."""
        remote = self._zenoh.Locality.REMOTE
        self._serve(session.declare_subscriber(key, self._ring(_RING), allowed_origin=remote), action)
        self._renewed.append(RenewedDeclaration(key, lambda spelling: self._idle_subscriber(session, spelling)))

    def _steady_queryable(self, session: Any, key: str, action: Callable[[Any], None]) -> None:
        """Declares a queryable, renewed as `RenewedDeclaration` says."""
        self._serve(session.declare_queryable(key, self._ring(_RING)), action)
        self._renewed.append(
            RenewedDeclaration(key, lambda spelling: session.declare_queryable(spelling, self._ring(1)))
        )

    def _put(self, key: str, data: bytes) -> bool:
        """Puts a small message beside the packets; False when there is nobody to hear it, or Zenoh refuses."""
        session = self._session
        if session is None or not self._peers:
            return False
        try:
            session.put(
                key,
                data,
                congestion_control=self._zenoh.CongestionControl.DROP,
                priority=self._zenoh.Priority.INTERACTIVE_HIGH,
                express=True,
            )
        except Exception as error:
            self._failed(error)
            return False
        return True

    def _count(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counters[name] += amount

    def _ring(self, capacity: int) -> Any:
        """A ring buffer between Zenoh and Python: the oldest of `capacity` entries gives way to the newest."""
        return self._zenoh.handlers.RingChannel(capacity)

    def _idle_subscriber(self, session: Any, key: str) -> Any:
        """A subscriber that exists only so that the other end hears of its key."""
        return session.declare_subscriber(key, self._ring(1), allowed_origin=self._zenoh.Locality.REMOTE)

    def _serve(self, declared: Any, action: Callable[[Any], None]) -> None:
        """Hands each arrival to `action` in a thread of its own, until the session closes; exceptions are counted."""

        def serve() -> None:
            while not self._closing.is_set():
                try:
                    arrival = declared.recv()
                except Exception:  # Zenoh's word for a closed session
                    return
                try:
                    action(arrival)
                except Exception as error:
                    self._failed(error)

        server = threading.Thread(target=serve, name=f"{self._name}-{len(self._servers)}", daemon=True)
        self._servers.append(server)
        server.start()

    def _failed(self, error: Exception) -> None:
        self._count("errors")
        self.last_error = f"{type(error).__name__}: {error}"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        session = None
        while session is None and not self._closing.is_set():
            try:
                self.options.check_files()
                session = self._zenoh.open(self.options.config())
                self.trouble = ""
            except Exception as error:
                self._failed(error)
                self.trouble = opening_trouble(error, self.options)
                self._closing.wait(self.options.retry)
        if session is None:
            return
        try:
            self._declare(session)
            events = session.info.declare_transport_events_listener(self._ring(_RING), history=True)
            self._serve(events, self._transport_event)
        except Exception as error:
            self._failed(error)
            self.trouble = opening_trouble(error, self.options)
        self._session = session
        while not self._closing.is_set():
            self._wake.wait(_TICK)
            self._wake.clear()
            if self._closing.is_set():
                break
            try:
                now = time.monotonic()
                if self._peers:
                    for renewed in self._renewed:
                        renewed.renew(now)
                self._duties(session, now)
            except Exception as error:
                self._failed(error)
        self._session = None
        try:
            session.close()
        except Exception as error:
            self._failed(error)
        for server in self._servers:
            server.join(timeout=5.0)

    def _transport_event(self, event: Any) -> None:
        peer = str(event.transport.zid)
        if event.kind == self._zenoh.SampleKind.PUT:
            self._peers = self._peers | {peer}
            self._count("connects")
            now = time.monotonic()
            for renewed in self._renewed:
                renewed.restart(now)
            self._peer_arrived()
            self._wake.set()
        else:
            self._peers = self._peers - {peer}
            self._count("disconnects")
