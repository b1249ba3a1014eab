"""What readers wait for with years of history, and whether anybody notices them."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from . import history, machine
from .processes import Failed, until
from .table import Figure, number, percentile
from .vetwatch import Vetwatch, now_ms

PAGES = ["/", "/decided", "/report", "/customers", "/customers?q=school", "/deliveries", "/health", "/metrics", "/feed.atom"]
READERS = 50
DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "database.md"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _get(port: int, path: str) -> float:
    """Milliseconds until a page was read to its end."""
    began = time.monotonic_ns()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    if answer.status != 200:
        raise Failed(f"{path} is answered with {answer.status}")
    return (time.monotonic_ns() - began) / 1e6


def _queries() -> list[str]:
    """The documented queries."""
    return re.findall(r"```sql\n(select.*?|with.*?)```", DOCUMENTED.read_text(), re.S)


def reading(bench) -> list[Figure]:
    """Commands, pages and queries over years of history; and verdicts told meanwhile."""
    count, transitions = (2_000, 20_000) if bench.quick else (100_000, 1_000_000)
    verdicts = bench.times(200, 20)
    reviews = min(2 * verdicts + 100, count // 2)
    with bench.world("reading", count, reviews, count * 9 // 100) as (peer, folder):
        port = _free_port()
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.relay_url, peer.hook_url)
        with vetwatch.configuration.open("a") as configuration:
            configuration.write(f'[web]\nlisten = "127.0.0.1:{port}"\n')
        vetwatch.poll_all(count)
        history.fill(vetwatch.database, transitions, now_ms())
        customers = peer.in_review(count)
        with vetwatch.daemon():
            until("a page", lambda: _listens(port))
            figures = _commands(bench, vetwatch) + _pages(bench, port) + _documented(bench, vetwatch.database)
            tell = lambda which: [bench.verdict(vetwatch, peer, who) for who in which]  # noqa: E731
            fsyncs = machine.fsync_times(folder)
            alone = tell(customers[:verdicts])
            with _readers(port, vetwatch.database) as pages:
                beside = tell(customers[verdicts : 2 * verdicts])
            fsyncs += machine.fsync_times(folder)
    bar = 10 + 2 * percentile(fsyncs, 99) * 1000
    note = f"without readers: p50 {number(percentile(alone, 50))}, p99 {number(percentile(alone, 99))} ms"
    read = f"{len(pages)} pages, p50 {number(percentile(pages, 50))}, p99 {number(percentile(pages, 99))} ms"
    return [
        *figures,
        Figure(f"answer → webhook, {READERS} page readers and the heaviest query, p50", "ms", [percentile(beside, 50)]),
        Figure("… p99 (bar: 10 ms + twice the fsync p99)", "ms", [percentile(beside, 99)], most=bar, beside=note),
        Figure("… the readers' own wait, p50", "ms", [percentile(pages, 50)], beside=read),
    ]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def _commands(bench, vetwatch: Vetwatch) -> list[Figure]:
    figures = []
    for name, arguments in (("status", ["status"]), ("customers list, first page", ["customers", "list", "--limit", "100"])):
        vetwatch.run_status(*arguments)
        taken = [vetwatch.run_status(*arguments).wall * 1000 for _ in range(bench.times(15, 3))]
        figures.append(Figure(f"`{name}`", "ms", taken, most=100))
    return figures


def _pages(bench, port: int) -> list[Figure]:
    figures = []
    for path in PAGES:
        _get(port, path)
        taken = [_get(port, path) for _ in range(bench.times(30, 3))]
        figures.append(Figure(f"page `{path}`", "ms", taken, most=100))
    return figures


def _documented(bench, database: Path) -> list[Figure]:
    single, grouped = [], []
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        name = db.execute("select name from customer order by id desc limit 1").fetchone()[0]
        for query in _queries():
            query = query.replace("Contoso%", name)  # one customer's history; thousands are called Contoso here
            times = []
            for _ in range(bench.times(5, 2)):
                began = time.monotonic_ns()
                db.execute(query).fetchmany(100)
                times.append((time.monotonic_ns() - began) / 1e6)
            (grouped if "group by" in query else single).append(statistics.median(times))
    what = "documented query, the slowest of"
    return [
        Figure(f"{what} {len(single)}", "ms", single, most=50, judged=max(single)),
        Figure(f"{what} {len(grouped)} with `group by`", "ms", grouped, most=500, judged=max(grouped)),
    ]


@contextlib.contextmanager
def _readers(port: int, database: Path) -> Iterator[list[float]]:
    """Reads pages, and runs the heaviest query, again and again during the block; yields how long each page took."""
    ended, taken, failures = threading.Event(), [], []

    def read(first: int) -> None:
        turn = first
        while not ended.is_set():
            try:
                taken.append(_get(port, PAGES[turn % len(PAGES)]))
            except (OSError, Failed) as failure:
                failures.append(str(failure))
            turn += 1
            ended.wait(0.5)  # a person reads

    def ask() -> None:
        heaviest = "select qualification, outcome, vetting_reason, count(*), avg(hours_in_review) from v_decisions group by 1, 2, 3"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
            while not ended.is_set():
                db.execute(heaviest).fetchall()

    threads = [threading.Thread(target=read, args=(n,)) for n in range(READERS)] + [threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    try:
        yield taken
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if failures:
        raise Failed(f"{len(failures)} pages were not read; the first: {failures[0]}")
