"""Children: each is waited for with its resource usage, and none outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


class Failed(Exception):
    """The work itself went wrong, so there is nothing to measure. A slow figure is no failure."""


@dataclass
class Usage:
    """Of an ended child: seconds from just before its start until it was reaped, bytes written. No memory: the kernel counts that of
    this process, from which it was forked."""

    wall: float
    cpu: float
    written: int


def environment() -> dict[str, str]:
    """This process's environment, without what would change a child's log or configuration."""
    unwanted = ("RUST_LOG", "JOURNAL_STREAM", "VETWATCH_CONFIG", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def timed(
    command: list[str | Path], log: Path, within: float = 600, codes: tuple[int, ...] = (0,), env: dict[str, str] | None = None
) -> Usage:
    """Runs a command, with stdout and stderr in files; any other exit code is a failure."""
    complaints = log.with_suffix(".err")
    with log.open("wb") as output, complaints.open("wb") as errors:
        began = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env or environment())
        with ending(child):
            _, status, usage = _wait4(child, began + within)
    wall = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    if code not in codes:
        raise Failed(f"{command[0]} ended with {code}:\n{tail(log)}\n{tail(complaints)}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_oublock * 512)


def _wait4(child: subprocess.Popen[bytes], deadline: float):
    """Waits in the kernel, so that the end is seen at once; an alarm kills a child that hangs."""

    def too_late(*_: object) -> None:
        child.kill()

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001))
    try:
        ended = os.wait4(child.pid, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    return ended


@contextlib.contextmanager
def ending(child: subprocess.Popen[bytes]):
    """Ensures that the child has ended after the block."""
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def until(what: str, condition, within: float = 60, pause: float = 0.02):
    """Waits for a condition, and returns what it returned."""
    deadline = time.monotonic() + within
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not seen within {within:.0f} s: {what}")
        time.sleep(pause)
