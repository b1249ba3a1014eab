"""What polling costs: beside urlwatch, and beside what the server can do."""

from __future__ import annotations

import statistics
import time

from . import ceilings, machine, urlwatch
from .bench import Bench
from .loopback import Receiver
from .processes import until
from .table import Figure, number
from .vetwatch import Vetwatch


def unchanged(bench: Bench) -> list[Figure]:
    """500 polls, all unchanged, all recorded; urlwatch beside it, turn by turn."""
    count = 500
    with bench.world("unchanged", count, 50, 450) as (peer, folder), Receiver() as receiver:
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
        vetwatch.poll_all(count)
        other = None
        if bench.urlwatch:
            other = urlwatch.Urlwatch(bench.urlwatch, folder / "urlwatch", peer, peer.ids(count))
            other.run()
        ours, theirs = [], []
        for _ in range(bench.times(15, 2)):
            ours.append(vetwatch.poll_all(count))
            if other:
                theirs.append(other.run())
    figures = []
    for what, most, of in (("wall", 0.15, lambda usage: usage.wall), ("CPU", 0.1, lambda usage: usage.cpu)):
        mine = [of(usage) for usage in ours]
        beside = "urlwatch: not measured"
        if theirs:
            median = statistics.median(of(usage) for usage in theirs)
            beside = f"urlwatch: {number(median)} s, {median / statistics.median(mine):.0f} times as much"
        figures.append(Figure(f"500 polls, all unchanged, all recorded: {what}", "s", mine, most=most, beside=beside))
    return figures


def throughput(bench: Bench) -> list[Figure]:
    """The first sweep, and the cost of a poll with many customers, beside the server's own limit."""
    count = bench.times(20_000, 2_000)
    with bench.world("throughput", count, count // 100, count * 9 // 100) as (peer, folder), Receiver() as receiver:
        sweeps, runs, limits, curl = [], [], [], []
        for run in range(bench.times(3, 1)):
            vetwatch = Vetwatch(bench.vetwatch, folder / f"vetwatch-{run}", peer, peer.url, receiver.url)
            vetwatch.run("customers", "sync")
            sweeps.append(vetwatch.poll_all(count))
            for _ in range(bench.times(3, 1)):
                runs.append(vetwatch.poll_all(count))
                limits.append(ceilings.wrk(peer, bench.times(5, 1)))
                curl.append(ceilings.curl(peer, folder, peer.ids(count)))
    rates = [count / usage.wall for usage in runs]
    polls = f"{count:,} polls"
    first = [count / usage.wall for usage in sweeps]
    cost = statistics.median(usage.cpu / count * 1000 for usage in sweeps)
    least, beside = None, "wrk: not installed"
    if None not in limits:
        limit = statistics.median(limits)
        least, beside = limit / 3, f"a third of wrk's {number(limit)} /s on one core over as many connections"
    if None not in curl:
        beside += f"; curl -Z: {number(statistics.median(curl))} /s"
    return [
        Figure(f"first sweep, everybody new ({polls})", "/s", first, least=5000, beside=f"{number(cost)} ms CPU each"),
        Figure(f"CPU a poll, end to end, with storage ({polls})", "ms", [u.cpu / count * 1000 for u in runs], most=0.07),
        Figure(f"polls a second ({polls})", "/s", rates, least=least, beside=beside),
    ]


def tls(bench: Bench) -> list[Figure]:
    """The same over TLS, which the server's process speaks in front of itself."""
    count = bench.times(20_000, 2_000)
    with bench.world("tls", count, count // 100, count * 9 // 100) as (peer, folder), Receiver() as receiver:
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.tls_url, receiver.url, trusts=peer.certificate)
        vetwatch.run("customers", "sync")
        vetwatch.poll_all(count)
        runs, limits = [], []
        for _ in range(bench.times(3, 1)):
            runs.append(vetwatch.poll_all(count))
            limits.append(ceilings.wrk(peer, bench.times(5, 1), peer.tls_url))
    cost = number(statistics.median(usage.cpu / count * 1000 for usage in runs))
    beside = f"{cost} ms CPU each; wrk: not installed"
    if None not in limits:
        beside = f"{cost} ms CPU each; wrk over TLS: {number(statistics.median(limits))} /s"
    return [Figure(f"polls a second over TLS ({count:,} polls)", "/s", [count / usage.wall for usage in runs], beside=beside)]


def sizes(bench: Bench) -> list[Figure]:
    """How a sweep's cost grows: every customer is polled by one command, first when all are new, then unchanged."""
    figures = []
    for count in [500, 5_000] if bench.quick else [500, 5_000, 100_000, 1_000_000]:
        with bench.world("sizes", count, count // 100, count * 9 // 100) as (peer, folder), Receiver() as receiver:
            vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
            vetwatch.run("customers", "sync")
            for what, usage in (("new", vetwatch.poll_all(count)), ("unchanged", vetwatch.poll_all(count))):
                size = vetwatch.database.stat().st_size
                cost = f"{number(usage.cpu / count * 1000)} ms CPU, {number(usage.written / count)} bytes written each"
                held = f"file {number(size / count)} bytes a customer"
                figures.append(
                    Figure(f"{count:,} customers, all {what}", "s", [usage.wall], beside=f"{cost}; {held}")
                )
    return figures


def memory(bench: Bench) -> list[Figure]:
    """The daemon's resident memory after it has synced and polled all customers."""
    figures = []
    sizes = [(500, None, 1), (5_000, 20, bench.times(3, 1)), (bench.times(100_000, 10_000), 40, 1)]
    if not bench.quick:
        sizes.append((1_000_000, 200, 1))
    for count, most, times in sizes:
        settled, private, peaks, took, again = [], [], [], [], []
        for _ in range(times):
            with (
                bench.world("memory", count, count // 100, count * 9 // 100) as (peer, folder),
                Receiver() as receiver,
            ):
                vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
                began = time.monotonic()
                with vetwatch.daemon() as daemon:
                    seen = "select count(*) = ? from customer where last_seen_at is not null"
                    until(f"{count} customers were asked", lambda: vetwatch.ask(seen, count), within=1800, pause=0.25)
                    took.append(time.monotonic() - began)
                    time.sleep(3)  # late frees are done by now
                    resident = machine.memory(daemon.pid)
                again.append(vetwatch.run("customers", "sync")[0].wall)
            settled.append(resident["VmRSS"])
            private.append(resident["RssAnon"])
            peaks.append(resident["VmHWM"])
        beside = f"list and first sweep: {number(statistics.median(took))} s"
        figures += [
            Figure(f"resident with {count:,} customers, all asked", "MB", settled, most=most, beside=beside),
            Figure("… of it private (`RssAnon`)", "MB", private, most=10 if count == 5_000 else None),
            Figure("… at most so far (`VmHWM`), the list's arrival included", "MB", peaks),
            Figure("… their list taken over again (`customers sync`)", "s", again),
        ]
    return figures
