"""Operates a program that shows a screen on a terminal.

Reads JSON on stdin: {"argv": [...], "env": {...}, "cwd": "...", "size": [columns, lines], "steps": [[step, value], ...]}.
Steps: ["wait", text] until the screen shows it; ["key", keys] types; ["resize", [columns, lines]]; ["signal", number];
["show", name] keeps the screen under a name; ["end", null] waits for the end.
Prints JSON: {"exit": code, or minus the signal, "screens": {name: text}, "last": the screen at the end,
"restored": whether the terminal is as before, "raw": all that was written, "stuck": the text that did not come}.
"""

import json
import os
import sys

from screen import Program

given = json.load(sys.stdin)
program = Program(given["argv"], given["env"], given.get("cwd", "."), *given.get("size", [80, 24]))
screens, stuck = {}, None
for step, value in given["steps"]:
    if step == "wait" and not program.wait(value):
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
exit_code = program.end()
print(json.dumps({"exit": exit_code, "screens": screens, "last": program.text(), "restored": program.is_restored(),
                  "raw": program.raw.decode(errors="replace"), "stuck": stuck}))
