"""Years of history: reviews that began and ended long ago, written straight into the database."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import uuid
from pathlib import Path

DAY = 86_400_000
REASONS = ["Not an Education Customer", "Not an Academic Domain", "Incomplete Information", "Not Eligible - After Review"]


def fill(database: Path, transitions: int, now: int, seed: int = 1) -> None:
    """Adds so many transitions, each with its event, evenly to the customers that are there."""
    chance = random.Random(seed)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("pragma synchronous = off")
        db.execute("begin")
        customers = db.execute("select id, partner from customer order by id").fetchall()
        rows, events, number = [], [], db.execute("select coalesce(max(id), 0) from transition").fetchone()[0]
        for _ in range(transitions // 2):
            customer, partner = customers[chance.randrange(len(customers))]
            submitted = now - int(chance.random() * 3 * 365 * DAY) - 10 * DAY
            decided = submitted + int(chance.lognormvariate(0.8, 0.7) * DAY)
            attempt = chance.choice([1, 1, 1, 2, 2, 3])
            denied = chance.random() < 0.3
            verdict, reason = ("Denied", chance.choice(REASONS)) if denied else ("Approved", None)
            for before, after, at, why in (
                ("absent", "InReview", submitted, None),
                ("InReview", verdict, decided, reason),
            ):
                number += 1
                rows.append((number, customer, before, after, why, submitted, attempt, submitted, at - 900_000, at, None if after == "InReview" else after))
                kind = {"InReview": "submitted", "Approved": "approved", "Denied": "denied"}[after]
                data = {"qualification": "Education", "from": before, "to": after, "attempt": attempt}
                name = str(uuid.UUID(int=chance.getrandbits(128), version=4))
                events.append((name, f"vetting.{kind}", number, partner, customer, at, json.dumps(data)))
        db.executemany(
            "insert into transition (id, customer, qualification, from_status, to_status, vetting_reason, vetting_created_at,"
            " attempt, submitted_at, last_seen_before_at, observed_at, outcome) values (?, ?, 'Education', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.executemany(
            "insert into event (id, type, transition, partner, customer, occurred_at, data) values (?, ?, ?, ?, ?, ?, ?)",
            events,
        )
        db.execute("commit")
        db.execute("pragma wal_checkpoint(truncate)")
