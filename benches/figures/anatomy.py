"""What a poll is made of: system calls, syncs, statements and allocations, counted. Times mean nothing here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .bench import Bench
from .loopback import Receiver
from .processes import Failed, timed
from .table import Figure, number
from .vetwatch import Vetwatch


def anatomy(bench: Bench) -> list[Figure]:
    """Counts of one command that polls all customers, unchanged; those of few customers are subtracted, and with them what the
    start costs."""
    few, many = bench.times(1_000, 200), bench.times(5_000, 1_000)
    counts = []
    for count in (few, many):
        with bench.world("anatomy", count, count // 100, count * 9 // 100) as (peer, folder), Receiver() as receiver:
            vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
            vetwatch.run("customers", "sync")
            vetwatch.poll_all(count)
            counts.append(_calls(vetwatch) | _statements(vetwatch) | _allocations(vetwatch))
    each = {what: (counts[1].get(what, 0) - counts[0].get(what, 0)) / (many - few) for what in counts[1]}
    what = f"of {many:,} polls, all unchanged"
    figures = []
    if "calls" in each:
        often = sorted((name for name in each if name.startswith("calls:")), key=each.get, reverse=True)[:6]
        beside = ", ".join(f"{name.removeprefix('calls:')} {number(each[name])}" for name in often)
        figures.append(Figure(f"system calls a poll, {what}", "", [each["calls"]], beside=beside))
        figures.append(Figure("… syncs a thousand polls", "", [each.get("calls:fdatasync", 0) * 1000]))
    figures.append(Figure(f"statements a thousand polls, {what}", "", [each["statements"] * 1000]))
    if "allocations" in each:
        beside = f"{number(each['bytes'])} bytes"
        figures.append(Figure(f"allocations a poll, {what}", "", [each["allocations"]], beside=beside))
    return figures


def _calls(vetwatch: Vetwatch) -> dict[str, float]:
    """System calls, by name; empty without strace."""
    if not (program := shutil.which("strace")):
        return {}
    report = _run(vetwatch, [program, "-f", "-c", "-o"])
    calls: dict[str, float] = {}
    # `% time, seconds, usecs/call, calls, errors (mostly empty), syscall`.
    for line in report.splitlines():
        if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
            calls["calls" if found[2] == "total" else f"calls:{found[2]}"] = int(found[1])
    if "calls" not in calls:
        raise Failed(f"strace counted nothing:\n{report}")
    return calls


def _statements(vetwatch: Vetwatch) -> dict[str, float]:
    log = vetwatch.folder / "statements.log"
    timed(vetwatch.command("poll"), log, env=vetwatch.environment | {"RUST_LOG": "off,sqlx::query=debug"})
    return {"statements": log.with_suffix(".err").read_text(errors="replace").count("db.statement")}


def _allocations(vetwatch: Vetwatch) -> dict[str, float]:
    """Empty without valgrind."""
    if not (program := shutil.which("valgrind")):
        return {}
    report = _run(vetwatch, [program, "--undef-value-errors=no", "--log-file"])
    found = re.search(r"total heap usage: ([\d,]+) allocs, [\d,]+ frees, ([\d,]+) bytes", report)
    if not found:
        raise Failed(f"valgrind counted nothing:\n{report}")
    return {what: int(text.replace(",", "")) for what, text in zip(("allocations", "bytes"), found.groups(), strict=True)}


def _run(vetwatch: Vetwatch, program: list[str | Path]) -> str:
    """Polls all customers by a program that writes a report; returns that."""
    report = vetwatch.folder / "report"
    *program, option = program
    # strace takes its file as a word of its own, valgrind with `=`.
    option = [option, report] if option == "-o" else [f"{option}={report}"]
    timed([*program, *option, *vetwatch.command("poll")], vetwatch.folder / "counted.log", env=vetwatch.environment)
    return report.read_text(errors="replace")
