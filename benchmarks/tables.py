"""The results of benchmarks: tables that can write themselves."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol


class Table(Protocol):
    """One table of the report."""

    @property
    def title(self) -> str: ...

    def lines(self) -> list[str]:
        """Return the lines below the title."""

    def document(self) -> dict[str, Any]:
        """Return the title and all measured values, ready for JSON."""


@dataclass(frozen=True)
class Row:
    """The seconds of one contender in each round, and the median of the rounds' ratios to the first contender."""

    name: str
    mib: int
    seconds: tuple[float, ...]
    ratio: float

    @property
    def median(self) -> float:
        """The median of `seconds`."""
        return statistics.median(self.seconds)

    def against(self, first: Row) -> Row:
        """Return the same times with the ratio to those of `first`."""
        ratios = [theirs / own for theirs, own in zip(first.seconds, self.seconds, strict=True)]
        return replace(self, ratio=statistics.median(ratios))

    def line(self) -> str:
        """Return ratio, median, spread, speed and name."""
        speed = f"{self.mib / self.median:.0f}" if self.mib else ""
        return _line(f"{self.ratio:.2f}", f"{self.median:.3f}", _spread(self.seconds, 3), speed, self.name)


@dataclass(frozen=True)
class Result:
    """Contenders that took turns. The first row is the loader; `missing` names the contenders that were left out."""

    title: str
    rows: tuple[Row, ...]
    missing: tuple[str, ...]

    def beside(self, title: str, name: str, others: slice) -> Result:
        """Return another table of the same measurements: the contender `name` first, then the rows `others`."""
        (first,) = (row for row in self.rows if row.name == name)
        return Result(title, tuple(row.against(first) for row in (first, *self.rows[others])), self.missing)

    def lines(self) -> list[str]:
        """Return a line for each contender, and one for each that is missing."""
        rows = [_line("ratio", "median s", "min - max s", "MiB/s", ""), *(row.line() for row in self.rows)]
        return [*(rows if self.rows else []), *_absent(self.missing)]

    def document(self) -> dict[str, Any]:
        """Return every single time."""
        rows = [asdict(row) | {"median": row.median} for row in self.rows]
        return {"title": self.title, "rows": rows, "missing": self.missing}


@dataclass(frozen=True)
class Figure:
    """A figure in `unit` instead of seconds, for each round."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of `values`."""
        return statistics.median(self.values)

    def line(self) -> str:
        """Return median, spread, unit and name."""
        return _figure_line(f"{self.median:.1f}", _spread(self.values, 1), self.unit, self.name)


@dataclass(frozen=True)
class Figures:
    """A table of figures without ratios. `missing` names what was left out."""

    title: str
    rows: tuple[Figure, ...]
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return a line for each figure, and one for each that is missing."""
        rows = [_figure_line("median", "min - max", "unit", ""), *(row.line() for row in self.rows)]
        return [*(rows if self.rows else []), *_absent(self.missing)]

    def document(self) -> dict[str, Any]:
        """Return every single value."""
        rows = [asdict(row) | {"median": row.median} for row in self.rows]
        return {"title": self.title, "rows": rows, "missing": self.missing}


def _spread(values: tuple[float, ...], digits: int) -> str:
    return f"{min(values):.{digits}f} - {max(values):.{digits}f}"


def _absent(missing: tuple[str, ...]) -> list[str]:
    return [f"not measured: {what}" for what in missing]


def _line(ratio: str, median: str, spread: str, speed: str, name: str) -> str:
    return f"{ratio:>7}  {median:>8}  {spread:>17}  {speed:>6}  {name}".rstrip()


def _figure_line(median: str, spread: str, unit: str, name: str) -> str:
    return f"{median:>8}  {spread:>17}  {unit:<8}  {name}".rstrip()
