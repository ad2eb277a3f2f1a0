"""What all nodes share: the lifecycle, counters, throttled warnings, and a process that ends cleanly.

rclpy has lifecycle nodes in every ROS 2 that this package supports (Jazzy, Kilted, and the PyPI wheels), so there is
no second base class for an rclpy without them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from semhier_ros.nodes.parameters import ParameterError, ParameterTable
from semhier_ros.nodes.state_log import StateLog

_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
WARNING_PERIOD = 5.0
"""Seconds between two warnings about the same thing."""
GLANCE = 0.1
"""Seconds between two looks at whether the process was asked to stop."""

Result = TypeVar("Result")


def in_a_line(error: Exception) -> str:
    """What went wrong, for the operator; and what to do where this Python lacks a package that a node imports."""
    lacks = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if lacks in ("", "semhier_ros"):
        return f"{type(error).__name__}: {error}"
    return (
        f'{sys.executable} has no {lacks}; README.md, "With ROS 2": pip install -r requirements/runtime.txt, then build'
        " with that Python"
    )


class StoppedError(Exception):
    """The process was asked to stop while a node waited for what takes long."""


class ManagedNode(LifecycleNode):
    """A lifecycle node with a parameter table.

    Subclasses give `configure` (make publishers, load what takes time), `activate` (subscribe, start threads),
    `deactivate` (stop them) and `cleanup`; whatever these raise becomes one logged line and a failed transition.
    `values` holds the parameters as the node uses them: what is not live is as it was when the node was configured.
    `counters` counts what happened, from any thread.
    `done` ends the process when it is set; with `failed` set before, by exit code 1: the node's work cannot go on.
    `stopping` is set once the process is asked to stop. It then ends within `end_seconds`, whatever still runs: launch
    files kill after 5 s. None: it takes as long as it takes, for nodes whose work would be lost.
    """

    end_seconds: float | None = 3.5

    def __init__(self, name: str, table: ParameterTable, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.table = table
        table.declare(self)
        self.values: SimpleNamespace = table.values(self)
        self._counts: Counter[str] = Counter()
        self._counts_lock = threading.Lock()
        self._warned: dict[str, float] = {}
        self._active = self._configured = False
        self.done = threading.Event()
        self.failed = threading.Event()
        self.stopping = threading.Event()
        table.guard(self, lambda: self._active)
        self.add_post_set_parameters_callback(self._after_change)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=5))
        self._failure = ""
        self._states = StateLog()
        self._watch_timer = self.create_timer(1.0, self._watch, clock=steady_clock())

    # what subclasses fill in
    def configure(self) -> None:
        """Makes what the node needs; may raise ValueError, OSError or RuntimeError with a message for the operator."""

    def activate(self) -> None:
        """Starts to work."""

    def deactivate(self) -> None:
        """Stops to work; called only after `activate`."""

    def cleanup(self) -> None:
        """Gives back what `configure` made."""

    def parameters_changed(self, names: set[str]) -> None:
        """Called after parameters of a configured node were set; the live ones have their new value in `values`."""

    def subjects(self) -> Sequence[str]:
        """What this node has a diagnostic status for: cameras."""
        return ()

    def link_trouble(self) -> str:
        """Why the node's link cannot open now and what to do, in a line; empty when nothing is wrong."""
        return ""

    def _watch(self) -> None:
        """Once a second: the log hears of a link that cannot open, the diagnostics of a node that does not work."""
        trouble = self.link_trouble()
        if trouble:
            self.warn("link_not_open", trouble, error=True)
        if self._active:
            return
        state = self._state_machine.current_state[1]
        text = self._failure or trouble or f"the node is {state}: it works once it is active (`ros2 lifecycle set`)"
        for name in self.subjects():
            level = DiagnosticStatus.ERROR if self._failure or trouble else DiagnosticStatus.WARN
            self.publish_diagnostics(name, level, text, {"state": state})

    # transitions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.values = self.table.values(self)
        result = self._transition("configure", self.configure, super().on_configure, state)
        self._configured = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition("activate", self.activate, super().on_activate, state)
        self._active = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        return self._transition("deactivate", self.deactivate, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._configured = False
        return self._transition("clean up", self.cleanup, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._active:
            self._active = False
            self._transition("deactivate", self.deactivate, super().on_deactivate, state)
        self._configured = False
        result = self._transition("clean up", self.cleanup, super().on_shutdown, state)
        self.done.set()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = self._configured = False
        return TransitionCallbackReturn.SUCCESS

    def _transition(
        self,
        name: str,
        step: Callable[[], None],
        base: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        before = {id(entity) for kind in (self.publishers, self.subscriptions, self.timers) for entity in kind}
        try:
            step()
        except StoppedError:
            self._take_back(before)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # whatever it is, it must reach the operator as one line, not end the executor
            self._failure = f"cannot {name}: {in_a_line(error)}"
            self.get_logger().error(self._failure)
            self._take_back(before)
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return base(state)

    def _take_back(self, before: set[int]) -> None:
        """Ends the topics and timers of this node that were not there `before`: a failed step leaves nothing."""
        for publisher in [item for item in self.publishers if id(item) not in before]:
            self.destroy_publisher(publisher)
        for subscription in [item for item in self.subscriptions if id(item) not in before]:
            self.destroy_subscription(subscription)
        for timer in [item for item in self.timers if id(item) not in before]:
            self.destroy_timer(timer)

    def unless_stopped(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, done in a thread of its own, for what may take longer than a stop may wait.

        Raises StoppedError once the process is asked to stop; `work` then runs on until the process ends, and what it
        made is lost. So it must hold nothing that has to be given back: files, sessions, topics.
        """
        result: Future[Result] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=run, name="unless stopped", daemon=True).start()
        while not self.stopping.is_set():
            if wait([result], GLANCE).done:
                return result.result()
        raise StoppedError

    def start(self) -> bool:
        """Configures and activates, as the `autostart` parameter wishes; False when that failed."""
        good = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == good and self.trigger_activate() == good

    def stop(self) -> None:
        """Through to `finalized` from whatever state the node is in."""
        if self._state_machine.current_state[1] in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        """Ends the node for others at once: its state machine too would keep it known until their lease ends."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _after_change(self, changed: list[RosParameter]) -> None:
        names = {item.name for item in changed}
        now, later = self.table.values(self), []
        for parameter in self.table if self._configured else ():
            used = getattr(self.values, parameter.attribute)
            if not parameter.live and used != getattr(now, parameter.attribute):
                setattr(now, parameter.attribute, used)
                later += [parameter.name] if parameter.name in names else []
        self.values = now
        if later:
            again = "clean up and configure it again (`ros2 lifecycle set`)"
            self.get_logger().warning(f"{', '.join(later)}: read when the node is configured; {again}")
        if self._configured:
            self.parameters_changed(names)

    # counters, warnings, time
    def count(self, name: str, amount: int = 1) -> None:
        """Adds to a counter of the diagnostics; any thread."""
        with self._counts_lock:
            self._counts[name] += amount

    def counts(self) -> dict[str, int]:
        """All counters as they are now."""
        with self._counts_lock:
            return dict(self._counts)

    def warn(self, kind: str, text: str, *, error: bool = False) -> None:
        """Counts `kind`, and logs `text` at most once in five seconds per kind; any thread."""
        self.count(kind)
        now = time.monotonic()
        with self._counts_lock:
            if now - self._warned.get(kind, -WARNING_PERIOD) < WARNING_PERIOD:
                return
            self._warned[kind] = now
            times = self._counts[kind]
        line = f"{text} ({kind}: {times} so far)"
        self.get_logger().error(line) if error else self.get_logger().warning(line)

    def now_ns(self) -> int:
        """The node's clock in ns: the simulation's with `use_sim_time`."""
        return int(self.get_clock().now().nanoseconds)

    def publish_diagnostics(self, name: str, level: bytes, message: str, values: dict[str, object]) -> None:
        """One status of this node on /diagnostics; the log hears of it when it is news."""
        if self._states.is_news(name, level, message) and message not in (self._failure, self.link_trouble()):
            logger, line = self.get_logger(), f"{name}: {message}"
            if level == DiagnosticStatus.OK:
                logger.info(line)
            elif level == DiagnosticStatus.WARN:
                logger.warning(line)
            else:
                logger.error(line)
        node = self.get_fully_qualified_name()
        status = DiagnosticStatus(level=level, name=f"{node.lstrip('/')}: {name}", message=message)
        status.hardware_id = node
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def steady_clock() -> Clock:
    """A clock for timers that goes on while the simulation's stands still."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def command_line(table: ParameterTable) -> argparse.ArgumentParser:
    """The parser of what a node's command line holds besides ROS arguments: `--help`, which shows its parameters."""
    return argparse.ArgumentParser(
        prog=table.node,
        description=table.summary,
        epilog=f"Parameters come by `--ros-args -p NAME:=VALUE` or `--ros-args --params-file FILE`:\n\n{table.yaml()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def main_of(node: Callable[[], ManagedNode], table: ParameterTable, arguments: list[str] | None) -> NoReturn:
    """Runs a node that takes ROS arguments alone, those of `arguments` or of the process, as `spin` does.

    Ends the process with 2, and with a line that says why, where there is another argument.
    """
    words = sys.argv if arguments is None else [table.node, *arguments]
    command_line(table).parse_args(remove_ros_args(words)[1:])
    spin(node, words)


def spin(make_node: Callable[[], ManagedNode], arguments: list[str] | None = None) -> NoReturn:
    """Runs one node until SIGINT, SIGTERM or its shutdown transition, and ends the process.

    Its exit code: 0 after a stop, 1 when the node could not start or go on (one line on stderr or in the log says why).
    Signals end the node through its shutdown transition, so that threads, sessions and bags are closed while the ROS
    context still lives; what loads a model is not waited for. They are blocked and looked at, never handled: OpenVINO
    gives the thread that loads its CPU plugin another signal stack, and when the plugin is unloaded elsewhere (a node
    that is cleaned up) a handler would run on freed memory. Threads that libraries made at import (OpenBLAS under
    numpy) do not block them and may be the ones to get them: for these there is a handler, which only sets a flag.
    The process ends without taking the interpreter and its libraries apart, which takes seconds on a busy machine.
    """
    code = _life(make_node, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _life(make_node: Callable[[], ManagedNode], arguments: list[str] | None) -> int:
    stopping = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: stopping.set())
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has several kinds: an unknown severity, a file that is not there
        print(f"cannot start: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    node: ManagedNode | None = None
    try:
        try:
            node = make_node()
        except (ParameterError, ValueError) as error:
            print(f"cannot start: {error}", file=sys.stderr)
            return 1
        node.stopping = stopping
        threading.Thread(target=_end_in_time, args=(node,), name="stop", daemon=True).start()
        if node.values.autostart and not node.start():
            return 0 if stopping.is_set() else 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not (node.done.is_set() or stopping.is_set()):
            executor.spin_once(timeout_sec=GLANCE)
        node.stop()
        executor.shutdown()
        return 1 if node.failed.is_set() else 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _end_in_time(node: ManagedNode) -> None:
    """Sets `node.stopping` when a stop signal comes, and ends the process where the node has not after its time."""
    while not node.stopping.wait(GLANCE):
        if signal.sigpending() & _STOP_SIGNALS:
            node.stopping.set()
    if node.end_seconds is not None:
        time.sleep(node.end_seconds)
        late = f"{node.table.node}: what it was at took longer than {node.end_seconds:g} s; it ends without waiting"
        print(late, file=sys.stderr, flush=True)
        os._exit(0)
