"""What the server of the figures can do at most: asked by wrk and curl, which store nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from .peer import Peer
from .processes import Failed, environment

CONNECTIONS = 8  # the default of `max_in_flight`


def _headers(peer: Peer) -> list[str]:
    headers = {"Authorization": f"Bearer {peer.token()}", "Accept": "application/json"}
    return [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]


def wrk(peer: Peer, seconds: int, base: str | None = None) -> float | None:
    """Responses a second to one request again and again, to another URL of the server if given; None without wrk."""
    if not (program := shutil.which("wrk")):
        return None
    url = f"{base or peer.url}v1/customers/{peer.ids(1)[0]}/qualifications"
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *_headers(peer), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", done.stdout)
    if not rate or "Non-2xx" in done.stdout:
        raise Failed(f"wrk could not measure:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def curl(peer: Peer, folder: Path, customers: list[str]) -> float | None:
    """Responses a second, each customer asked once; None without curl."""
    if not (program := shutil.which("curl")):
        return None
    urls = folder / "curl"
    urls.write_text("".join(f'url = "{peer.url}v1/customers/{who}/qualifications"\noutput = /dev/null\n' for who in customers))
    command = [program, "--silent", "--no-progress-meter", "--fail", "--noproxy", "*", "--parallel", "--parallel-max", str(CONNECTIONS)]
    before, began = peer.statuses().get("200", 0), time.monotonic()
    done = subprocess.run([*command, *_headers(peer), "--config", urls], timeout=600, env=environment(), check=False)
    took = time.monotonic() - began
    answered = peer.statuses().get("200", 0) - before
    if done.returncode != 0 or answered != len(customers):
        raise Failed(f"curl ended with {done.returncode} and got {answered} answers instead of {len(customers)}")
    return answered / took
