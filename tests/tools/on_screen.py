"""Operates a program that shows a screen on a terminal.

Reads JSON on stdin: {"argv": [...], "env": {...}, "cwd": "...", "size": [columns, lines], "steps": [[step, value], ...]}.
Steps: ["wait", text] until the screen shows it; ["key", keys] types; ["resize", [columns, lines]]; ["signal", number];
["last line", text] waits until the last line shows it; ["show", name] keeps the screen under a name; ["watch", pattern]
takes the process whose id the screen shows there, and ["kill watched", null] kills it.
Prints JSON: {"exit": code, or minus the signal, "screens": {name: text}, "last": the screen at the end,
"restored": whether the terminal is as before, "raw": all that was written, "watched ended": whether the process that was
watched has ended as well, "stuck": the text that did not come}.
"""

import json
import os
import re
import select
import signal
import sys

from screen import PATIENCE, Program

given = json.load(sys.stdin)
program = Program(given["argv"], given["env"], given.get("cwd", "."), *given.get("size", [80, 24]))
screens, stuck, watched = {}, None, None
for step, value in given["steps"]:
    waits = {"wait": lambda: value in program.text(), "last line": lambda: value in program.screen.display[-1]}
    if step in waits and not program.read(waits[step]):
        stuck = value
        screens["stuck"] = program.text()
        os.kill(program.pid, 15)
        break
    elif step == "key":
        program.type(value)
    elif step == "resize":
        program.resize(*value)
    elif step == "signal":
        os.kill(program.pid, value)
    elif step == "show":
        screens[value] = program.text()
    elif step == "watch":
        watched = os.pidfd_open(int(re.search(value, program.text())[1]))
    elif step == "kill watched":
        signal.pidfd_send_signal(watched, signal.SIGKILL)
exit_code = program.end()
watched_ended = watched is not None and bool(select.select([watched], [], [], PATIENCE)[0])
print(json.dumps({"exit": exit_code, "screens": screens, "last": program.text(), "restored": program.is_restored(),
                  "raw": program.raw.decode(errors="replace"), "watched ended": watched_ended, "stuck": stuck}))
