"""How long a verdict takes from the answer that shows it to the webhook that tells it, whatever else goes on."""

from __future__ import annotations

import signal
import statistics
import time
from dataclasses import dataclass

from . import alertmanager, machine
from .bench import Bench
from .loopback import Receiver
from .processes import Failed, until
from .table import Figure, number, percentile
from .vetwatch import Vetwatch


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
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.relay_url, peer.hook_url, hung)
        vetwatch.poll_all(count * repeats)
        customers = peer.in_review(count * repeats)
        with vetwatch.daemon():
            for repeat in range(repeats):
                fsyncs = machine.fsync_times(folder)
                mine = customers[repeat * count : (repeat + 1) * count]
                taken = [bench.verdict(vetwatch, peer, customer) for customer in mine]
                fsyncs += machine.fsync_times(folder)
                middle.append(percentile(taken, 50))
                high.append(percentile(taken, 99))
                bars.append(10 + 2 * percentile(fsyncs, 99) * 1000)
                disk += fsyncs
    return _Latencies(middle, high, statistics.median(bars), disk)


def sweep(bench: Bench) -> list[Figure]:
    """The same while many others are polled: when all of them are new, when all are known, and when all wait for the
    default budget."""
    count, verdicts = bench.times(100_000, 5_000), bench.times(200, 20)
    figures = []
    with bench.world("sweep", 3 * verdicts, 3 * verdicts, 0) as (peer, folder):
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.relay_url, peer.hook_url)
        vetwatch.poll_all(3 * verdicts)
        customers = peer.in_review(3 * verdicts)
        peer.add(count, 0, 0)  # an entry of a customer that joins would be news

        def told(what: str, mine: list[str], command: list[str]) -> None:
            fsyncs, before = machine.fsync_times(folder), peer.questions()
            sweeping = vetwatch.start(*command)
            taken = [bench.verdict(vetwatch, peer, customer) for customer in mine]
            polls = peer.questions() - before
            fsyncs += machine.fsync_times(folder)
            if sweeping.wait(600) != 0:
                raise Failed(f"{command} ended with {sweeping.returncode}")
            bar = 10 + 2 * percentile(fsyncs, 99) * 1000
            note = f"p50 {number(percentile(taken, 50))} ms; {polls:,} polls meanwhile"
            name = f"answer → webhook while {count:,} others are polled, {what}: p99 of {verdicts} verdicts"
            figures.append(Figure(name, "ms", [percentile(taken, 99)], most=bar, beside=note))

        with vetwatch.daemon():
            # The daemon polls the new ones as they come, and the known ones once they are due.
            told("all new, without a budget", customers[:verdicts], ["customers", "sync"])
            unseen = "select count(*) from customer where last_seen_at is null"
            until("the sweep's end", lambda: vetwatch.ask(unseen) == 0, within=600, pause=0.1)
            told("all known, without a budget", customers[verdicts : 2 * verdicts], ["poll"])
        vetwatch.set_budget(300)
        vetwatch.make_due("unqualified")
        with vetwatch.daemon():
            told("all due, with the default budget", customers[2 * verdicts :], ["status"])
    return figures


def burst(bench: Bench) -> list[Figure]:
    """Many notifications at once, beside Alertmanager, which keeps them in memory."""
    count = bench.times(1_000, 100)
    figures = []
    with bench.world("burst", count, count, 0) as (peer, folder), Receiver() as receiver:
        vetwatch = Vetwatch(bench.vetwatch, folder / "vetwatch", peer, peer.url, receiver.url)
        vetwatch.poll_all(count)
        customers = peer.in_review(count)
        for customer in customers:
            peer.approve(customer)
        with vetwatch.daemon() as daemon:
            before = machine.cpu(daemon.pid)
            began = time.monotonic_ns()
            vetwatch.run("poll")  # the daemon polls
            ours = _rate(receiver, customers, began)
            vetwatch.wait_until_nothing_is_pending()
            cost = (machine.cpu(daemon.pid) - before) / count * 1000
        note = f"{number(cost)} ms CPU each, its poll and five fsyncs for it included"
        theirs = None
        if alertmanager.program():
            with alertmanager.running(folder / "alertmanager", receiver.url) as peer_process:
                before = machine.cpu(peer_process.process)
                began = time.monotonic_ns()
                peer_process.fire(customers)
                theirs = _rate(receiver, customers, began)
                cost = (machine.cpu(peer_process.process) - before) / count * 1000
    figures.append(Figure(f"{count:,} verdicts at once, webhooks a second from the first poll on", "/s", [ours], beside=note))
    if theirs:
        note = f"{number(cost)} ms CPU each, nothing on disk"
        figures.append(Figure(f"… Alertmanager, {count:,} alerts in one request", "/s", [theirs], beside=note))
    return figures


def _rate(receiver: Receiver, customers: list[str], began: int) -> float:
    """Webhooks a second until each customer was told."""
    missing, last = set(customers), began
    while missing:
        if (hook := receiver.next(60)) is None:
            raise Failed(f"{len(missing)} of {len(customers)} were not told")
        missing.discard(hook.customer)
        last = hook.at
    return len(customers) / (last - began) * 1e9


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
        Figure(f"start → next attempt after a crash, {len(taken)} kills", "ms", taken, most=100, judged=max(taken)),
    ]
