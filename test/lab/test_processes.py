"""Children are watched and ended, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from semhier_ros import interrupts
from semhier_ros.lab.processes import ChildError, Supervisor


def alive(process: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 60.0) -> bool:
    """Whether `condition()` became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def number_in(path: Path) -> int:
    """The process id that a child wrote."""
    assert wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def test_a_dead_child_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = "import sys; print('\\n'.join(f'line {n}' for n in range(99))); sys.exit('the lens is covered')"
    with Supervisor(tmp_path) as children:
        children.start("camera", [sys.executable, "-c", program])
        with pytest.raises(ChildError) as caught:
            children.wait_until(lambda: False, 20, "never")
    text = str(caught.value)
    assert text.startswith("the camera process ended with exit code 1; its log (")
    assert text.endswith("the lens is covered")
    assert "line 98" in text
    assert "line 3\n" not in text


def test_time_runs_out_with_a_name(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as children:
        children.start("slow", [sys.executable, "-c", "print('loading', flush=True); import time; time.sleep(60)"])
        children.wait_until(lambda: children.says("slow", "loading"), 20, "loading")
        with pytest.raises(ChildError, match=r"slow ready: not within 0\.1 s; its log ends:\n  loading"):
            children.wait_until(lambda: False, 0.1, "slow ready", blame="slow")
        with pytest.raises(ChildError, match="cannot start /no/such/program"):
            children.start("none", ["/no/such/program"])


def test_a_child_may_finish_with_zero_where_that_is_expected(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as children:
        children.start("player", [sys.executable, "-c", ""])
        assert wait_for(lambda: not children.running("player"))
        children.check(finished=("player",))
        with pytest.raises(ChildError, match="exit code 0"):
            children.check()


def test_stubborn_children_are_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    with Supervisor(tmp_path) as children:
        children.start("stubborn", [sys.executable, "-c", program])
        process = number_in(note)
        assert children.end("stubborn", patience=0.2) == -signal.SIGKILL
    assert not alive(process)


def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys, time; from pathlib import Path; from semhier_ros.lab.processes import Supervisor\n"
        f"children = Supervisor(Path({str(tmp_path)!r}))\n"
        f"children.start('child', [sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = subprocess.Popen([sys.executable, "-c", parent], env=environment)
    process = number_in(note)
    killed.kill()
    killed.wait()
    assert wait_for(lambda: not alive(process))


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT raises, even where a shell's `&` had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_during_the_fork_comes_after_it(tmp_path: Path) -> None:
    """Python prints and forgets what its hooks at a fork raise; so once did the demo with a Ctrl-C."""
    armed = [True]

    def interrupt() -> None:
        if armed:
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)

    os.register_at_fork(before=interrupt)
    with Supervisor(tmp_path) as children, interrupts.stop_signals(), pytest.raises(KeyboardInterrupt):
        children.start("child", [sys.executable, "-c", f"import time; {str(tmp_path)!r}; time.sleep(60)"])
    assert not armed
    running = [folder for folder in Path("/proc").glob("[0-9]*") if alive(int(folder.name))]
    assert not [item for item in running if str(tmp_path).encode() in (item / "cmdline").read_bytes()]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_interrupt_is_raised_again(number: int, kind: type[BaseException]) -> None:
    class Unlucky:
        def __del__(self) -> None:
            signal.raise_signal(number)

    with interrupts.stop_signals():
        interrupts.check()
        Unlucky()
        with pytest.raises(kind):
            interrupts.check()
    interrupts.check()


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.stop_signals(), interrupts.held():
            signal.raise_signal(signal.SIGINT)
        interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_all_children_are_asked_before_any_is_waited_for(tmp_path: Path) -> None:
    """Each ends once all have been asked, and no sooner: whoever waited for one first would have to kill it."""
    program = """
import signal, sys, time
from pathlib import Path
name, folder = sys.argv[1], Path(sys.argv[2])
def asked(*_):
    (folder / f"asked-{name}").touch()
    while len(list(folder.glob("asked-*"))) < 3:
        time.sleep(0.01)
    (folder / f"ended-{name}").touch()
    sys.exit(0)
signal.signal(signal.SIGINT, asked)
print("ready", flush=True)
time.sleep(600)
"""
    with Supervisor(tmp_path) as children:
        for name in "abc":
            children.start(name, [sys.executable, "-c", program, name, str(tmp_path)])
        children.wait_until(lambda: all(children.says(name, "ready") for name in "abc"), 60, "ready")
        children.stop()
    assert len(list(tmp_path.glob("ended-*"))) == 3
