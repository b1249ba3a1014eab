"""vetwatch as an operator would set it up, in a separate folder."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .peer import Peer
from .processes import Failed, Usage, ending, environment, tail, timed, until

BUDGET = 1_000_000
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"


class Vetwatch:
    def __init__(
        self, program: Path, folder: Path, peer: Peer, api: str, hook: str, other: str | None = None, *,
        trusts: Path | None = None,
    ) -> None:  # fmt: skip
        """Polls `api` (the peer, or a relay before it) and notifies `hook` and `other` of verdicts. It `trusts` a
        certificate instead of the system's."""
        folder.mkdir()
        self.environment = environment() | ({"SSL_CERT_FILE": str(trusts)} if trusts else {})
        self.program, self.folder = program, folder
        self.database, self.configuration = folder / "vetwatch.db", folder / "vetwatch.toml"
        self.log = folder / "vetwatch.log"
        (folder / "client-secret").write_text(peer.client_secret)
        (folder / "signing-secret").write_text(SIGNING_SECRET)
        endpoints = {"crm": hook} | ({"other": other} if other else {})
        # Other settings have their defaults; the budget is the sandbox's maximum.
        self.configuration.write_text(f"""
[database]
path = "{self.database}"

[[partner]]
name = "emea"
tenant = "{peer.tenant}"
client_id = "{peer.client_id}"
api_url = "{api}"
login_url = "{api}"
requests_per_minute = {BUDGET}
[partner.credential]
kind = "client-secret"
client_secret_file = "{folder / "client-secret"}"

{"".join(_endpoint(name, url, folder) for name, url in endpoints.items())}
[[route]]
events = ["vetting.approved", "vetting.denied", "vetting.revoked", "vetting.vanished"]
endpoints = {json.dumps(list(endpoints))}

[operators]
endpoints = ["crm"]
""")

    def set_budget(self, requests_per_minute: int) -> None:
        """For the next start."""
        text = self.configuration.read_text()
        self.configuration.write_text(text.replace(f"= {BUDGET}\n", f"= {requests_per_minute}\n"))

    def make_due(self, poll_class: str) -> None:
        """Has every customer of a class polled. No daemon may run."""
        with contextlib.closing(sqlite3.connect(self.database)) as db, db:
            db.execute("update customer set next_poll_at = 0 where poll_class = ?", (poll_class,))

    def command(self, *arguments: str) -> list[str | Path]:
        return [self.program, "--config", self.configuration, "--json", *arguments]

    def run(self, *arguments: str) -> tuple[Usage, Any]:
        """Runs a command to its end; what it printed, and what it cost."""
        log = self.folder / "command.log"
        usage = timed(self.command(*arguments), log, env=self.environment)
        try:
            return usage, json.loads(log.read_text())
        except ValueError as error:
            raise Failed(f"vetwatch {' '.join(arguments)} printed no JSON:\n{tail(log)}") from error

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a command, and leaves it to its end."""
        nowhere = subprocess.DEVNULL
        command = self.command(*arguments)
        return subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=self.environment)

    def run_status(self, *arguments: str) -> Usage:
        """Runs a command that may say that a person is needed."""
        return timed(self.command(*arguments), self.folder / "command.log", codes=(0, 3))

    def poll_all(self, count: int) -> Usage:
        """Polls every customer once, and checks that every response was recorded."""
        before = now_ms()
        usage, said = self.run("poll")
        seen = self.ask("select count(*) from customer where last_seen_at >= ? and poll_failures = 0", before)
        if said.get("polled") != count or said.get("failed") != 0 or seen != count:
            raise Failed(f"of {count} customers {seen} were recorded; the command said {said}")
        return usage

    @contextlib.contextmanager
    def daemon(self, settled: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """Runs the daemon during the block, which begins after the start, unless that is measured."""
        with self.log.open("wb") as log:
            command = [self.program, "--config", self.configuration, "run"]
            unit = self.environment | {"MALLOC_ARENA_MAX": "1"}  # as the unit has it
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=unit)
        with ending(child):
            if settled:
                until(f"a daemon that runs, in {self.log}", lambda: b" runs\n" in self.log.read_bytes())
            yield child

    def ask(self, query: str, *values: Any) -> Any:
        """The single value of a query, over a separate connection; None while there is no database."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as reader:
                return reader.execute(query, values).fetchone()[0]
        except sqlite3.OperationalError:
            return None

    def wait_until_nothing_is_pending(self) -> None:
        pending = "select count(*) from delivery where state = 'pending'"
        until("an empty outbox", lambda: self.ask(pending) == 0, within=30)


def _endpoint(name: str, url: str, folder: Path) -> str:
    return f"""
[[endpoint]]
name = "{name}"
kind = "webhook"
url = "{url}"
secret_file = "{folder / "signing-secret"}"
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000
