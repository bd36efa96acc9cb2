"""Results as text, as the section of docs/performance.md, and as a document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Figure, Figures, Result, Row

LEGEND = "ratio: the loader's time by this row's, median of the rounds' own ratios; above 1 the loader is slower."
HEADINGS = ("ratio", "median s", "min - max s", "MiB/s", "")
FIGURE_HEADINGS = ("median", "min - max", "unit", "")


def as_text(machine: Mapping[str, str], results: Sequence[Result | Figures]) -> str:
    """The machine and one table for each result, in columns."""
    about = "\n".join(f"{name:<12}{value}" for name, value in machine.items())
    return "\n\n".join([about, LEGEND, *map(_table, results)])


def as_markdown(machine: Mapping[str, str], results: Sequence[Result | Figures]) -> str:
    """The same, to be pasted into docs/performance.md."""
    return f"## Results\n\n```\n{as_text(machine, results)}\n```"


def as_document(machine: Mapping[str, str], results: Sequence[Result | Figures]) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {"machine": dict(machine), "results": [_entry(result) for result in results]}


def _entry(result: Result | Figures) -> dict[str, Any]:
    rows = [asdict(row) | {"median": row.median} for row in result.rows]
    return {"title": result.title, "rows": rows, "missing": result.missing}


def _table(result: Result | Figures) -> str:
    if isinstance(result, Figures):
        lines = [_figure_line(*FIGURE_HEADINGS), *(_figure_line(*_figure_cells(row)) for row in result.rows)]
    else:
        lines = [_line(*HEADINGS), *(_line(*_cells(row)) for row in result.rows)]
    absent = [f"not measured: {what}" for what in result.missing]
    return "\n".join([result.title, *(lines if result.rows else []), *absent])


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    spread = f"{min(row.seconds):.3f} - {max(row.seconds):.3f}"
    speed = f"{row.mib / row.median:.0f}" if row.mib else ""
    return f"{row.ratio:.2f}", f"{row.median:.3f}", spread, speed, row.name


def _line(ratio: str, median: str, spread: str, speed: str, name: str) -> str:
    return f"{ratio:>7}  {median:>8}  {spread:>17}  {speed:>6}  {name}".rstrip()


def _figure_cells(row: Figure) -> tuple[str, str, str, str]:
    return f"{row.median:.1f}", f"{min(row.values):.1f} - {max(row.values):.1f}", row.unit, row.name


def _figure_line(median: str, spread: str, unit: str, name: str) -> str:
    return f"{median:>8}  {spread:>17}  {unit:<8}  {name}".rstrip()
