"""A measured value with the sample size and the interval that say how far to trust it."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value; where it comes from a sample, its n and a two-sided interval (95 % by default)."""

    value: float
    n: int | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    unit: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether the value is a number that can be judged."""
        return math.isfinite(self.value)

    def scaled(self, factor: float, unit: str) -> "Measurement":
        """The same measurement in another unit; `factor` is positive."""
        return replace(
            self,
            value=self.value * factor,
            low=None if self.low is None else self.low * factor,
            high=None if self.high is None else self.high * factor,
            unit=unit,
        )

    def text(self, digits: int = 4) -> str:
        """`0.9361 (n = 360, 95 % interval 0.9060 to 0.9570)`."""
        shown = f"{number(self.value, digits)}{' ' + self.unit if self.unit else ''}"
        details = []
        if self.n is not None:
            details.append(f"n = {self.n}")
        if self.low is not None and self.high is not None:
            interval = f"{number(self.low, digits)} to {number(self.high, digits)}"
            details.append(f"{self.confidence:.0%} interval {interval}".replace("%", " %"))
        return f"{shown} ({', '.join(details)})" if details else shown


def number(value: float | int, digits: int = 4) -> str:
    """A number as it stands in reports and messages: `digits` significant decimals, no noise."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(digits - 1, 1)}e}"
    return f"{value:.{digits}f}"
