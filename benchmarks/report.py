"""Results as text, as the section of docs/performance.md, and as a document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import Table

LEGEND = "ratio: the loader's time by this row's, median of the rounds' own ratios; above 1 the loader is slower."


def as_text(machine: Mapping[str, str], results: Sequence[Table]) -> str:
    """The machine and one table for each result, in columns."""
    about = "\n".join(f"{name:<12}{value}" for name, value in machine.items())
    return "\n\n".join([about, LEGEND, *("\n".join([result.title, *result.lines()]) for result in results)])


def as_markdown(machine: Mapping[str, str], results: Sequence[Table]) -> str:
    """The same, to be pasted into docs/performance.md."""
    return f"## Results\n\n```\n{as_text(machine, results)}\n```"


def as_document(machine: Mapping[str, str], results: Sequence[Table]) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {"machine": dict(machine), "results": [result.document() for result in results]}
