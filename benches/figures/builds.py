"""How long a build takes: from nothing, and after an edit in each crate."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

from .bench import Bench
from .processes import Failed, environment
from .table import Figure

PROJECT = Path(__file__).resolve().parents[2]
CRATES = ["crates/core", "crates/partner-center", "crates/sandbox", "."]


def builds(bench: Bench) -> list[Figure]:
    """Development builds, as `cargo build` makes them, in a folder of their own; and the release build from nothing."""
    figures = []
    target = bench.folder / "target"
    if not bench.quick:
        figures.append(Figure("release build from nothing (dependencies are downloaded)", "s", [_build(target, "--release")]))
    figures.append(Figure("development build from nothing", "s", [_build(target)]))
    for crate in CRATES:
        taken = []
        for _ in range(bench.times(3, 1)):
            os.utime(PROJECT / crate / "src" / "lib.rs")  # an edit that changes nothing
            taken.append(_build(target))
        figures.append(Figure(f"development build after an edit in `{crate}`", "s", [statistics.median(taken)]))
    return figures


def _build(target: Path, *options: str) -> float:
    command = ["cargo", "build", "--quiet", "--locked", "--bin", "vetwatch", *options]
    began = time.monotonic()
    done = subprocess.run(command, cwd=PROJECT, env=environment() | {"CARGO_TARGET_DIR": str(target)}, check=False)
    if done.returncode != 0:
        raise Failed("vetwatch could not be built")
    return time.monotonic() - began
