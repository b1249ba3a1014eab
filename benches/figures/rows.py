"""The figures, one function for a row of the table of bars."""

from __future__ import annotations

import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import machine, peer as peers, reading, urlwatch
from .loopback import Receiver, Relay
from .peer import Peer
from .processes import Failed, environment, until
from .table import Figure, number, percentile
from .vetwatch import Vetwatch


@dataclass
class Bench:
    """State shared by all rows."""

    vetwatch: Path
    peer: Path
    # On the disk that is measured; a folder for each row.
    folder: Path
    # Kept from run to run.
    urlwatch: Path | None
    quick: bool

    def times(self, usually: int, quickly: int) -> int:
        return quickly if self.quick else usually

    @contextmanager
    def world(self, name: str, count: int, in_review: int, settled: int) -> Iterator[tuple[Peer, Path]]:
        """A sandbox with customers and an empty folder."""
        folder = self.folder / name
        folder.mkdir()
        with peers.running(self.peer, folder / "peer.log") as peer:
            peer.add(count, in_review, settled)
            yield peer, folder
        shutil.rmtree(folder)

    def verdict(self, vetwatch: Vetwatch, peer: Peer, relay: Relay, receiver: Receiver, customer: str) -> float:
        """Milliseconds from the answer's hand-over to the webhook's arrival."""
        peer.approve(customer)
        relay.answered.pop(customer, None)
        vetwatch.run("poll", customer)  # the daemon polls
        hook = receiver.next()
        if hook is None or hook.customer != customer:
            raise Failed(f"the verdict on {customer} was not told; the webhook that came is {hook}")
        return (hook.at - relay.answered[customer]) / 1e6


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    for what, most, of in (("wall", 0.3, lambda usage: usage.wall), ("CPU", 0.15, lambda usage: usage.cpu)):
        mine = [of(usage) for usage in ours]
        beside = "urlwatch: not measured"
        if theirs:
            median = statistics.median(of(usage) for usage in theirs)
            beside = f"urlwatch: {number(median)} s, {median / statistics.median(mine):.0f} times as much"
        figures.append(Figure(f"500 polls, all unchanged, all recorded: {what}", "s", mine, most=most, beside=beside))
    return figures


def throughput(bench: Bench) -> list[Figure]:
    """The cost of a poll with many customers, beside the server's own limit."""
    count = bench.times(20_000, 2_000)
    with bench.world("throughput", count, count // 100, count * 9 // 100) as (peer, folder), Receiver() as receiver:
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
        vetwatch.poll_all(count)
        runs = [vetwatch.poll_all(count) for _ in range(bench.times(5, 1))]
        limit = _wrk(peer)
    rates = [count / usage.wall for usage in runs]
    beside = "wrk: not installed"
    if limit:
        beside = f"wrk: {number(limit)} /s, {limit / statistics.median(rates):.1f} times as many"
    costs = [usage.cpu / count * 1000 for usage in runs]
    polls = f"{count:,} polls"
    return [
        Figure(f"CPU a poll, end to end, with storage ({polls})", "ms", costs, most=0.2),
        Figure(f"polls a second ({polls})", "/s", rates, least=2500, beside=beside),
    ]


def _wrk(peer: Peer) -> float | None:
    """Responses a second of the same server to the same request over as many connections."""
    if not (wrk := shutil.which("wrk")):
        return None
    url = f"{peer.url}v1/customers/{peer.ids(1)[0]}/qualifications"
    headers = {"Authorization": f"Bearer {peer.token()}", "Accept": "application/json"}
    options = [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]
    command = [wrk, "-t1", "-c8", "-d5s", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", done.stdout)
    if not rate or "Non-2xx" in done.stdout:
        raise Failed(f"wrk could not measure:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def memory(bench: Bench) -> list[Figure]:
    """The daemon's resident memory after it has synced and polled all customers."""
    figures = []
    for count, most, times in ((5_000, 20, bench.times(3, 1)), (bench.times(100_000, 10_000), 60, 1)):
        settled, peaks, took, again = [], [], [], []
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
            peaks.append(resident["VmHWM"])
        beside = f"first sweep: {number(statistics.median(took))} s"
        figures += [
            Figure(f"resident with {count:,} customers, all asked", "MB", settled, most=most, beside=beside),
            Figure("… at most so far (`VmHWM`), the list's arrival included", "MB", peaks),
            Figure("… their list taken over again (`customers sync`)", "s", again),
        ]
    return figures


def latency(bench: Bench) -> list[Figure]:
    """From the answer that shows a verdict to the webhook that tells it, by a daemon that has nothing else to do; and
    by one whose other endpoint hangs."""
    count = bench.times(200, 20)
    idle = _verdicts(bench, count, None)
    with Receiver() as hung:
        hung.holding = True
        beside = _verdicts(bench, count, hung.url)
        if hung.hooks.empty():
            raise Failed("nothing was sent to the endpoint that hangs")
    note = f"fsync p50 {percentile(idle.disk, 50) * 1000:.2f}, p99 {percentile(idle.disk, 99) * 1000:.2f} ms"
    other = f"p50 {number(statistics.median(beside.middle))} ms"
    return [
        Figure(f"answer → webhook, idle, p50 of {count} verdicts", "ms", idle.middle),
        Figure("… p99 (bar: 10 ms + twice the fsync p99)", "ms", idle.high, most=idle.bar, beside=note),
        Figure("… p99 while another endpoint hangs", "ms", beside.high, most=beside.bar, beside=other),
    ]


@dataclass
class _Latencies:
    """Milliseconds of each repeat, and seconds of writes to the disk meanwhile."""

    middle: list[float]
    high: list[float]
    bar: float
    disk: list[float]


def _verdicts(bench: Bench, count: int, hung: str | None) -> _Latencies:
    repeats = bench.times(3, 1)
    middle, high, bars, disk = [], [], [], []
    with bench.world("latency", count * repeats, count * repeats, 0) as (peer, folder):
        with Relay(peer.url) as relay, Receiver() as receiver:
            vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, relay.url, receiver.url, hung)
            vetwatch.poll_all(count * repeats)
            customers = peer.in_review(count * repeats)
            with vetwatch.daemon():
                for repeat in range(repeats):
                    fsyncs = machine.fsync_times(folder)
                    mine = customers[repeat * count : (repeat + 1) * count]
                    taken = [bench.verdict(vetwatch, peer, relay, receiver, customer) for customer in mine]
                    fsyncs += machine.fsync_times(folder)
                    middle.append(percentile(taken, 50))
                    high.append(percentile(taken, 99))
                    bars.append(10 + 2 * percentile(fsyncs, 99) * 1000)
                    disk += fsyncs
    return _Latencies(middle, high, statistics.median(bars), disk)


def recovery(bench: Bench) -> list[Figure]:
    """Killed while the receiver holds its webhook, then restarted: time until the next request."""
    count, kills = 5_000, bench.times(20, 3)
    taken = []
    with bench.world("recovery", count, 50, 450) as (peer, folder), Receiver() as receiver:
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
        vetwatch.poll_all(count)
        for customer in peer.in_review(count)[:kills]:
            receiver.holding = True
            with vetwatch.daemon() as daemon:
                peer.approve(customer)
                vetwatch.run("poll", customer)  # the daemon polls
                held = receiver.next()
                if held is None or held.customer != customer:
                    raise Failed(f"the verdict on {customer} was not told; the webhook that came is {held}")
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()
            receiver.holding = False
            started = time.monotonic_ns()
            with vetwatch.daemon(settled=False):
                again = receiver.next(60)
                if again is None or again.id != held.id:
                    raise Failed(f"{held} was interrupted, and after it came {again}")
                taken.append((again.at - started) / 1e6)
                vetwatch.wait_until_nothing_is_pending()
    return [
        Figure(f"start → next attempt after a crash, {len(taken)} kills", "ms", taken, most=1000, judged=max(taken)),
    ]


ROWS = {
    "unchanged": unchanged,
    "throughput": throughput,
    "memory": memory,
    "latency": latency,
    "recovery": recovery,
    "reading": reading.reading,
}
