"""What both ends of a Zenoh link share: a session that opens in the background, duties, and counters."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from semhier_ros.link.zenoh_config import ZenohOptions, zenoh_module

_TICK = 0.1


class ZenohEnd:
    """One end: a thread opens the session (for ever, every `options.retry` seconds) and then does periodic duties.

    Subclasses give `_declare(session)` (once, after opening) and `_duties(session, now)` (about ten times a second). Both
    run in that thread; their exceptions are counted (`errors`, text in `last_error`) and never end it.
    """

    def __init__(self, options: ZenohOptions, name: str) -> None:
        self.options = options
        self._zenoh = zenoh_module()
        self._session: Any = None
        self._held: list[Any] = []
        self._peers: set[str] = set()
        self._counters: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.last_error = ""
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
        end = time.monotonic() + timeout
        while not self.connected and time.monotonic() < end:
            time.sleep(0.01)
        return self.connected

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
        """Called from a Zenoh thread when a session to another end opened."""

    def _count(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counters[name] += amount

    def _guarded(self, action: Callable[[Any], None]) -> Callable[[Any], None]:
        """`action` for use as a Zenoh callback: its exceptions are counted instead of raised into Zenoh's threads."""

        def call(argument: Any) -> None:
            if self._closing.is_set():
                return
            try:
                action(argument)
            except Exception as error:
                self._failed(error)

        return call

    def _failed(self, error: Exception) -> None:
        self._count("errors")
        self.last_error = f"{type(error).__name__}: {error}"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        session = None
        while session is None and not self._closing.is_set():
            try:
                session = self._zenoh.open(self.options.config())
            except Exception as error:
                self._failed(error)
                self._closing.wait(self.options.retry)
        if session is None:
            return
        try:
            self._declare(session)
            listener = session.info.declare_transport_events_listener(
                self._guarded(self._transport_event), history=True
            )
            self._held.append(listener)
        except Exception as error:
            self._failed(error)
        self._session = session
        while not self._closing.is_set():
            self._wake.wait(_TICK)
            self._wake.clear()
            if self._closing.is_set():
                break
            try:
                self._duties(session, time.monotonic())
            except Exception as error:
                self._failed(error)
        self._session = None
        try:
            session.close()
        except Exception as error:
            self._failed(error)

    def _transport_event(self, event: Any) -> None:
        peer = str(event.transport.zid)
        if event.kind == self._zenoh.SampleKind.PUT:
            self._peers = self._peers | {peer}
            self._count("connects")
            self._peer_arrived()
            self._wake.set()
        else:
            self._peers = self._peers - {peer}
            self._count("disconnects")
