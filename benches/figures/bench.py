"""What the rows share."""

from __future__ import annotations

import contextlib
import queue
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import peer as peers
from .peer import Peer
from .processes import Failed
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

    def verdict(self, vetwatch: Vetwatch, peer: Peer, customer: str) -> float:
        """Milliseconds from the answer's hand-over to the webhook's arrival. vetwatch polls through the peer's relay and
        notifies the peer's receiver."""
        peer.approve(customer)
        vetwatch.run("poll", customer)  # the daemon polls
        with contextlib.suppress(queue.Empty):
            hook = peer.hooks.get(timeout=20)
            if hook.customer == customer:
                return (hook.at - peer.answered[customer]) / 1e6
            raise Failed(f"the verdict on {customer} was not told; the webhook that came is {hook}")
        raise Failed(f"the verdict on {customer} was not told")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
