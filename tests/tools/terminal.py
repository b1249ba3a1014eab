"""Answers a program's questions on a real terminal (a pty).

Reads JSON on stdin: {"argv": [...], "env": {...}, "cwd": "...", "answers": [["text to wait for", "answer"], ...]}.
Each text is searched after the one before. An answer is typed with Enter, null is not; "^C" and "^D" are typed
alone. Prints JSON:
{"exit": code, or minus the signal, "output": all that the terminal showed, "echo": whether it shows what is typed,
 "stuck": the text that did not come}.
"""

import json
import os
import pty
import select
import signal
import sys
import termios
import time

given = json.load(sys.stdin)
PATIENCE = 60  # seconds; only a failing test waits this long

main, side = pty.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    os.close(main)
    import fcntl

    fcntl.ioctl(side, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(side, fd)
    os.chdir(given.get("cwd", "."))
    os.execve(given["argv"][0], given["argv"], given.get("env", {}))

output = b""


def read(until):
    """Reads until `until()`; False if the program has ended or nothing came for too long."""
    global output
    deadline = time.monotonic() + PATIENCE
    while not until():
        ready, _, _ = select.select([main], [], [], 0.1)
        if ready:
            output += os.read(main, 65536)
        elif os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) or time.monotonic() > deadline:
            return until()
    return True


at, stuck = 0, None
for text, answer in given["answers"]:
    if not read(lambda: text.encode() in output[at:]):
        stuck = text
        os.kill(pid, signal.SIGKILL)
        break
    at = output.index(text.encode(), at) + len(text.encode())
    if answer == "^C" or answer == "^D":
        # Typed when the program waits for it: the question was shown before.
        os.write(main, b"\x03" if answer == "^C" else b"\x04")
    elif answer is not None:
        os.write(main, answer.encode() + b"\n")
read(lambda: False)
_, status = os.waitpid(pid, 0)
echo = bool(termios.tcgetattr(side)[3] & termios.ECHO)
code = os.waitstatus_to_exitcode(status)
print(json.dumps({"exit": code, "output": output.decode(errors="replace"), "echo": echo, "stuck": stuck}))
