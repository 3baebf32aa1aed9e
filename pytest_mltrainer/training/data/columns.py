"""Running statistics of values, column by column, and where they are not finite."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LIMIT_SHOWN = 5


@dataclass(slots=True)
class Moments:
    """Count, mean, spread and range of the finite values of each column, merged chunk by chunk."""

    count: Array
    mean: Array
    squares: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, table: Array) -> "Moments":
        """The moments of a table of rows and columns; NaN and infinities are left out."""
        known = np.isfinite(table)
        count = known.sum(axis=0).astype(np.float64)
        values = np.where(known, table, 0.0)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(known, table - mean, 0.0) ** 2).sum(axis=0)
        low = np.where(known, table, np.inf).min(axis=0, initial=np.inf)
        high = np.where(known, table, -np.inf).max(axis=0, initial=-np.inf)
        return cls(count, mean, squares, low, high)

    def merge(self, other: "Moments") -> None:
        """Take in the moments of further rows (Chan, Golub, LeVeque 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        share = other.count / np.maximum(count, 1)
        self.squares = self.squares + other.squares + apart**2 * self.count * share
        self.mean = self.mean + apart * share
        self.count = count
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    @property
    def std(self) -> Array:
        """Population standard deviations."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    def pooled(self) -> "Moments":
        """All columns as one."""
        whole = Moments(*(part[:1] for part in self._parts()))
        for index in range(1, len(self.count)):
            whole.merge(Moments(*(part[index : index + 1] for part in self._parts())))
        return whole

    def _parts(self) -> tuple[Array, ...]:
        return self.count, self.mean, self.squares, self.low, self.high


@dataclass(slots=True)
class NonFinite:
    """How many values are not finite, and in which columns and rows the first ones are."""

    count: int = 0
    infinite: int = 0
    rows_affected: int = 0
    rows: list[int] = field(default_factory=list)
    by_column: dict[int, int] = field(default_factory=dict)

    def add(self, table: Array, rows: list[int]) -> None:
        """Count in a table whose rows stand at `rows` of their split."""
        bad = ~np.isfinite(table)
        if not bad.any():
            return
        affected = np.flatnonzero(bad.any(axis=1))
        self.count += int(bad.sum())
        self.infinite += int(np.isinf(table).sum())
        self.rows_affected += len(affected)
        self.rows += [rows[i] for i in affected[: LIMIT_SHOWN - len(self.rows)]]
        totals = bad.sum(axis=0)
        for column in np.flatnonzero(totals):
            self.by_column[int(column)] = self.by_column.get(int(column), 0) + int(totals[column])

    def to_json(self, names: list[str]) -> dict[str, Any]:
        """As it stands in the profile; `names` are the columns' names, or empty."""
        worst = sorted(self.by_column, key=lambda column: -self.by_column[column])
        return {
            "count": self.count,
            "infinite": self.infinite,
            "rows_affected": self.rows_affected,
            "rows": self.rows,
            "columns": [names[column] for column in worst[:LIMIT_SHOWN]] if names else [],
            "columns_affected": len(worst) if names else None,
        }
