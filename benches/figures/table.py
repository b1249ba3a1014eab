"""Figures beside their bars."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that this percentage of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]


@dataclass
class Figure:
    """One line of the table: repeated measurements, in `unit`."""

    what: str
    unit: str
    values: list[float]
    # The bar, if there is one: the judged value must be at most (or at least) this.
    most: float | None = None
    least: float | None = None
    # None: the median is judged.
    judged: float | None = None
    # The peer's values or the limit, from the same run.
    beside: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        judged = self.median if self.judged is None else self.judged
        if self.most is not None:
            return "met" if judged <= self.most else "**missed**"
        if self.least is not None:
            return "met" if judged >= self.least else "**missed**"
        return ""

    def row(self) -> list[str]:
        bar = ""
        if self.most is not None:
            bar = f"≤ {number(self.most)} {self.unit}"
        elif self.least is not None:
            bar = f"≥ {number(self.least)} {self.unit}"
        spread = f"{number(min(self.values))}–{number(max(self.values))}" if len(self.values) > 1 else ""
        return [self.what, bar, f"{number(self.median)} {self.unit}", spread, self.beside, self.verdict]


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.4f}"


HEAD = ["what", "bar", "median", "min–max", "beside it", ""]


def table(figures: list[Figure]) -> str:
    """As Markdown that also reads well in a terminal."""
    rows = [HEAD, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    rows.insert(1, ["-" * max(width, 3) for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
