"""The rows of the table of bars, by name."""

from __future__ import annotations

from .anatomy import anatomy
from .builds import builds
from .delivery import burst, latency, recovery, sweep
from .polling import memory, sizes, throughput, tls, unchanged
from .reading import reading

ROWS = {
    "unchanged": unchanged,
    "throughput": throughput,
    "tls": tls,
    "anatomy": anatomy,
    "sizes": sizes,
    "memory": memory,
    "latency": latency,
    "sweep": sweep,
    "burst": burst,
    "recovery": recovery,
    "reading": reading,
    "builds": builds,
}
