"""The machine that the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def describe() -> str:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {cpu_model()}, {gigabytes:.0f} GiB, Linux {platform.release()}"


def load() -> str:
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def fsync_times(folder: Path, times: int = 500) -> list[float]:
    """Seconds of each append of 4 KiB with fsync."""
    path = folder / "fsync"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    page = os.urandom(4096)
    taken = []
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file, page)
            os.fsync(file)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return taken


def memory(process: int) -> dict[str, float]:
    """Current, private and peak resident memory (`VmRSS`, `RssAnon`, `VmHWM`) of a running process, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon", "VmHWM")}


def cpu(process: int) -> float:
    """Seconds of CPU that a running process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
