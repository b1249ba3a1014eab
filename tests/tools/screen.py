"""A program on a real terminal (a pty), with a screen as a terminal shows it (pyte)."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

import pyte

PATIENCE = 60  # seconds; only a failing test waits this long


class Program:
    def __init__(self, argv, env, cwd=".", columns=80, lines=24):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.status = None
        self.main, self.side = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(self.side)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.close(self.main)
            fcntl.ioctl(self.side, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(self.side, fd)
            os.chdir(cwd)
            os.execve(argv[0], argv, env)

    def resize(self, columns, lines, tell=True):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.screen.resize(lines, columns)

    def type(self, text):
        os.write(self.main, text.encode())

    def read(self, until, patience=PATIENCE):
        """Reads until `until()`; False if the program has ended or it did not come about."""
        deadline = time.monotonic() + patience
        while not until():
            ready, _, _ = select.select([self.main], [], [], 0.02)
            if ready:
                self.feed(os.read(self.main, 65536))
            elif self.ended() or time.monotonic() > deadline:
                return until()
        return True

    def feed(self, data):
        self.raw += data
        self.stream.feed(data)

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def end(self):
        """Waits for the end. Returns the exit code, or minus the signal."""
        if not self.read(self.ended):
            os.kill(self.pid, signal.SIGKILL)
            self.read(self.ended, 5)
        while select.select([self.main], [], [], 0)[0]:
            self.feed(os.read(self.main, 65536))
        return self.status

    def is_restored(self):
        """True if the terminal is as it was: its settings, its screen, its cursor."""
        changed = any(self.raw.rfind(on) > self.raw.rfind(off) for on, off in
                      [(b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?7l", b"\x1b[?7h")])
        return termios.tcgetattr(self.side) == self.before and not changed
