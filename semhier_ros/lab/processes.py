"""Child processes that are watched, and ended whatever happens."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semhier_ros import interrupts

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
TAIL_LINES = 12


class ChildError(RuntimeError):
    """A child process that died or did not do its work in time; the message ends with the tail of its log."""


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Starts children with a log each, notices when one dies, and ends all of them; a context manager.

    `logs`: folder of the logs, `<name>.log`. Children have a session of their own, so that Ctrl-C reaches only the
    parent, which then ends them in the order in which they were started, last one first.
    """

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, ask: bool = False
    ) -> None:
        """Starts `command` under `name`; `environment` is added to this process's own. ask: it hears what `tell` says.

        Raises ChildError.
        """
        log = self.logs / f"{name}.log"
        # Held: an interrupt in a hook of the fork is lost, and one before the entry below leaves a child nobody ends.
        with log.open("wb") as stream, interrupts.held():
            try:
                child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE if ask else subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            except OSError as error:
                raise ChildError(f"{name}: cannot start {command[0]}: {error.strerror}") from error
            self._children[name] = child

    def start_part(self, name: str, module: str, role: str, plan: Mapping[str, Any]) -> None:
        """Starts `python -m MODULE ROLE PLAN`, the plan as a file beside the logs; it hears what `tell` says, and its
        libraries have one thread. Raises ChildError."""
        file = self.logs / f"{name}.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        environment = {"PYTHONPATH": _module_path(), "OMP_NUM_THREADS": "1"}
        self.start(name, [sys.executable, "-m", module, role, str(file)], environment, ask=True)

    def tell(self, name: str, words: str) -> None:
        """Writes `words` to the child's input."""
        stream = self._children[name].stdin
        assert stream is not None
        stream.write(words.encode())
        stream.flush()

    def check(self, finished: Sequence[str] = ()) -> None:
        """Raises ChildError when a child has died; those in `finished` may have ended with exit code 0.

        A stop signal that got lost (`interrupts`) is raised here.
        """
        interrupts.check()
        for name, child in self._children.items():
            code = child.poll()
            if code is not None and not (code == 0 and name in finished):
                how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                log = self.logs / f"{name}.log"
                raise ChildError(f"the {name} process {how}; its log ({log}) ends:\n{self.tail(name)}")

    def running(self, name: str) -> bool:
        """Whether the child still runs."""
        return self._children[name].poll() is None

    def wait_until(
        self, ready: Callable[[], bool], seconds: float, what: str, finished: Sequence[str] = (), blame: str = ""
    ) -> None:
        """Waits until `ready()`, watching all children. Raises ChildError after `seconds`, naming `what`.

        `finished`: children that may end meanwhile. `blame`: the child whose log is shown when time runs out.
        """
        end = time.monotonic() + seconds
        while not ready():
            self.check(finished)
            if time.monotonic() > end:
                shown = f"; its log ends:\n{self.tail(blame)}" if blame else ""
                raise ChildError(f"{what}: not within {seconds:g} s{shown}")
            time.sleep(0.02)

    def wait_for(self, name: str, text: str, seconds: float) -> None:
        """Waits until the log of `name` contains `text`. Raises ChildError after `seconds`, with its log."""
        self.wait_until(lambda: self.says(name, text), seconds, f"{name} ready", blame=name)

    def says(self, name: str, text: str) -> bool:
        """Whether the log of `name` contains `text` by now."""
        try:
            return text.encode() in (self.logs / f"{name}.log").read_bytes()
        except OSError:
            return False

    def tail(self, name: str) -> str:
        """The last lines of a child's log, indented."""
        try:
            text = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "  (no log)"
        lines = [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (nothing was logged)"

    def end(self, name: str, *, by: signal.Signals = signal.SIGINT, patience: float = 6.0) -> int:
        """Asks one child to end, and makes it; returns its exit code (negative: the signal that ended it)."""
        child = self._children[name]
        for step, wait in ((by, patience), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            if child.poll() is not None:
                break
            child.send_signal(step)
            try:
                child.wait(wait)
            except subprocess.TimeoutExpired:
                continue
        code = child.wait()
        del self._children[name]
        return code

    def stop(self) -> None:
        """Ends all children that are left: all are asked at once, those that do not listen are made to."""
        try:
            for child in self._children.values():
                child.send_signal(signal.SIGINT)
            for name in reversed(list(self._children)):
                self.end(name, patience=3.0)
        except BaseException:  # a second Ctrl-C: no more patience
            for child in self._children.values():
                child.kill()
                child.wait()
            self._children.clear()
            raise


def free_port() -> int:
    """A UDP port of 127.0.0.1 that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def node(name: str, parameters: Mapping[str, object]) -> list[str]:
    """The command that runs a node of this package with `parameters`."""
    command = [sys.executable, "-m", f"semhier_ros.nodes.{name}", "--ros-args"]
    for key, value in parameters.items():
        command += ["-p", f"{key}:={json.dumps(value)}"]
    return command


def ros_environment() -> dict[str, str]:
    """Variables of node processes: a ROS domain of their own on this machine, and this process's modules."""
    return {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 102)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": _module_path(),
    }


def _module_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)


def until_ended() -> threading.Event:
    """Set once this process is asked to end."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
