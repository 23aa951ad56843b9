"""What was measured: figures by row, queue and name, of which the median counts."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Figures:
    """All figures of a run, as far as it came.

    Attributes:
        values: row -> key of the queue -> name of the figure -> one value for each time that it was measured.
    """

    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, row: str, key: str, found: dict[str, float]) -> None:
        """Keep what one measurement found."""
        of_queue = self.values.setdefault(row, {}).setdefault(key, {})
        for name, value in found.items():
            of_queue.setdefault(name, []).append(value)

    def median(self, row: str, key: str, name: str) -> float | None:
        """The median of one figure, None if it was not measured."""
        values = self.values.get(row, {}).get(key, {}).get(name)
        return statistics.median(values) if values else None

    def every(self, name: str) -> list[float]:
        """All values of a figure, whatever row and queue they belong to."""
        return [
            value for of_row in self.values.values() for of_queue in of_row.values() for value in of_queue.get(name, ())
        ]


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient, None if either was not measured."""
    return numerator / denominator if numerator is not None and denominator else None


def total(*values: float | None) -> float | None:
    """Their sum, None if any was not measured."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
