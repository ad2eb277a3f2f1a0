"""A codec's two ends as processes (`ends.py`), with a link emulator of their own between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from semhier_ros.lab.processes import Supervisor, free_port
from semhier_ros.link.emulate.emulator import LinkEmulator
from semhier_ros.link.emulate.profile import LinkProfile
from semhier_ros.link.emulate.radio import RadioEmulator, RadioProfile

if TYPE_CHECKING:
    from semhier_ros.lab.replay.traffic import Traffic

START_SECONDS = 90.0
PATIENCE_SECONDS = 60.0
"""How much longer than its footage a run may take."""
SPARE_SECONDS = 5.0
"""For about how much longer than its footage a sender runs."""


def radio_plan(radio: RadioProfile, **changes: Any) -> dict[str, Any]:
    """What a plan says of an emulated radio, but for its devices; under a duty cycle no byte is sent twice."""
    repeats = {"repeats": 0} if radio.duty < 1.0 else {}
    settings = radio.datagram_settings(**changes) if radio.datagrams else radio.settings(**changes)
    return {"transport": "udp" if radio.datagrams else radio.transport, "settings": settings, "budget": 0.0, **repeats}


class Pair:
    """`name`: of its processes, logs and plans. `link`: its steps and outages count from `go` on. `radio`: an air in
    its place, whose devices the plan's settings get; one whose frames are datagrams has the link itself. `sender`:
    the sending process's name. A context manager, which lets go of the link; within it `play` starts and ends the
    processes."""

    def __init__(
        self,
        children: Supervisor,
        name: str,
        plan: dict[str, Any],
        link: LinkProfile,
        radio: RadioProfile | None = None,
    ) -> None:
        self._children, self._link, self.name, self.plan = children, link, name, plan
        self.log = {role: children.logs / f"{name}-{role}.jsonl" for role in ("receive", "send")}
        self._receiver, self.sender = f"{name}-receive", f"{name}-send"
        self.radio = None if radio is None or radio.datagrams else RadioEmulator(radio).start()
        self._datagrams = radio is not None and radio.datagrams
        port = free_port()
        quiet = link.without_events
        self.emulator = LinkEmulator(quiet, forward_port=port, keep_log=True).start()
        self._endpoints = {"receive": port, "send": self.emulator.listen_port}
        self.start_ns, self._logged, self._began = 0, 0, 0.0
        self.datagrams: list[Any] = []

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error: object) -> None:
        self.emulator.stop()
        if self.radio is not None:
            self.radio.stop()

    def listen(self) -> None:
        """Starts the receiving end."""
        self._start("receive")

    def connect(self) -> None:
        """Starts the sending end: at once over a radio; for a session's handshake, once the other one listens."""
        if self.radio is None and not self._datagrams:
            self._children.wait_for(self._receiver, "ready", START_SECONDS)
        self._start("send")

    def ready(self) -> None:
        """Waits until the ends are connected."""
        for end in (self._receiver, self.sender):
            self._children.wait_for(end, "ready", START_SECONDS)

    def go(self) -> None:
        """The run begins."""
        self._logged = len(self.emulator.log)
        if self.radio is not None:
            self._logged, self._began = len(self.radio.log), self.radio.elapsed
        self.emulator.set_profile(self._link, self._link)
        self.emulator.rewind()
        self.start_ns = time.time_ns()
        self._children.tell(self.sender, "go\n")

    def end(self) -> None:
        """Ends the receiving end; what the emulator logged since `go` is in `datagrams`."""
        self._children.end(self._receiver)
        if self.radio is None:
            self.datagrams = [entry for entry in self.emulator.log[self._logged :] if entry[0] == "up"]
            return
        for one in self.radio.log[self._logged :]:
            began, ended = one.began - self._began, one.ended - self._began
            if one.end == 0 and not one.other:
                self.datagrams.append(["up", began, None if one.cause else ended, one.size, one.cause])

    def _start(self, role: str) -> None:
        plan = {**self.plan, **self._where(role), "log": str(self.log[role])}
        self._children.start_part(f"{self.name}-{role}", "semhier_ros.lab.replay.ends", role, plan)

    def _where(self, role: str) -> dict[str, Any]:
        """How an end of this pair connects."""
        if self.radio is not None:
            device = self.radio.devices[role == "receive"]
            return {"settings": {**self.plan["settings"], "device": device}}
        if self._datagrams:
            at = f"127.0.0.1:{self._endpoints[role]}"
            return {"settings": {**self.plan["settings"], "peer" if role == "send" else "listen": at}}
        endpoint = f"udp/127.0.0.1:{self._endpoints[role]}"
        way = "connect" if role == "send" else "listen"
        return {"endpoint": endpoint, "transport": "zenoh", "settings": {way: [endpoint]}}


def play(
    children: Supervisor,
    pairs: Sequence[Pair],
    seconds: float,
    what: str,
    tell: Callable[[float], None],
    *,
    others: Traffic | None = None,
    settle: float = 0.0,
) -> None:
    """Sends `seconds` of footage by all pairs at the same time, from the start of their processes to their end.

    what: the run in words. tell: is given the share that is done. others: who else speaks on the line meanwhile.
    settle: seconds in which what is on its way may still arrive. Raises ChildError.
    """
    senders = [pair.sender for pair in pairs]
    for step in (Pair.listen, Pair.connect, Pair.ready):
        for pair in pairs:
            step(pair)
    if others is not None:
        others.start()
        others.go()
        senders.append(others.pilot)
    for pair in pairs:
        pair.go()
    began = time.monotonic()

    def sent() -> bool:
        tell((time.monotonic() - began) / (seconds + SPARE_SECONDS))
        return not any(children.running(pair.sender) for pair in pairs)

    children.wait_until(sent, seconds + PATIENCE_SECONDS, what, finished=senders)
    children.check(finished=senders)
    time.sleep(settle)
    for pair in pairs:
        pair.end()
    if others is not None:
        others.end()
