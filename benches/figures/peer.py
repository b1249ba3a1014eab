"""The simulated Partner Center, in a separate process."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .loopback import Hook
from .processes import Failed, ending, environment

# No proxy between us and loopback, whatever the environment says.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Peer:
    url: str
    tls_url: str
    # The same server through a relay that notes instants, and a receiver that does.
    relay_url: str
    hook_url: str
    tenant: str
    client_id: str
    client_secret: str
    certificate: Path
    # When the first answer that shows an approval was handed over, by customer (`time.monotonic_ns`).
    answered: dict[str, int] = field(default_factory=dict)
    hooks: queue.Queue[Hook] = field(default_factory=queue.Queue)

    def listen(self, output: IO[bytes]) -> None:
        """Takes in what the process measures, until it ends."""
        for line in output:
            what, at, customer, *rest = line.decode().split()
            if what == "answered":
                self.answered[customer] = int(at)
            else:
                self.hooks.put(Hook(int(at), rest[0] if rest else "", customer))

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + "control/" + path, data=data)
        with _direct.open(request, timeout=60) as answer:
            return json.load(answer)

    def add(self, count: int, in_review: int, settled: int) -> None:
        self.control("customers", {"count": count, "in_review": in_review, "settled": settled})

    def ids(self, limit: int) -> list[str]:
        return [customer["id"] for customer in self.control(f"customers?limit={limit}")["customers"]]

    def in_review(self, limit: int) -> list[str]:
        listed = self.control(f"customers?limit={limit}")["customers"]
        return [c["id"] for c in listed if any(e.get("vettingStatus") == "InReview" for e in c["entries"])]

    def approve(self, customer: str) -> None:
        self.control(f"customers/{customer}/approve", {})

    def questions(self) -> int:
        """Number of polls so far."""
        return self.control("counters")["kinds"].get("qualifications", {}).get("requests", 0)

    def statuses(self) -> dict[str, int]:
        return self.control("counters")["kinds"].get("qualifications", {}).get("statuses", {})

    def token(self) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "resource": "https://api.partnercenter.microsoft.com",
        }
        data = urllib.parse.urlencode(form).encode()
        with _direct.open(f"{self.url}{self.tenant}/oauth2/token", data=data, timeout=60) as answer:
            return json.load(answer)["access_token"]


@contextlib.contextmanager
def running(program: Path, log: Path) -> Iterator[Peer]:
    """A sandbox without customers. It ends with this process, since its standard input closes."""
    certificate, key = log.with_suffix(".pem"), log.with_suffix(".key")
    _make_certificate(certificate, key)
    with log.open("wb") as errors:
        command = [program, "--serve", certificate, key]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment()
        )
        with ending(child):
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                raise Failed("the simulated Partner Center did not start:\n" + log.read_text(errors="replace"))
            peer = Peer(**json.loads(line), certificate=certificate)
            threading.Thread(target=peer.listen, args=(child.stdout,), daemon=True).start()
            yield peer


def _make_certificate(certificate: Path, key: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for extension in ("subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:FALSE"):
        command += ["-addext", extension]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"openssl made no certificate:\n{done.stderr}")
