"""What explains a failed scene: the ends of all logs, the journal, and what the engine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.engines import Engine
from tests.support.inventory import Inventory
from tests.support.processes import ManagedProcess
from tests.support.unlocking import Operator

LOG_LINES = 60
LINE_CHARACTERS = 600


@contextmanager
def explained(account: Callable[[], str]) -> Iterator[None]:
    """Add `account()` to an AssertionError of the block. pytest prints it below the error."""
    try:
        yield
    except AssertionError as exc:
        exc.add_note(account())
        raise


def account_of(engine: Engine, journal: Path, operators: Sequence[Operator]) -> str:
    """Return the statuses of the last loader, the journal, the engine's inventory, and the ends of all logs.

    `operators` are those of all loaders of the scene, in the order of their start. What cannot be had is told by the
    error that it causes, because an account must not hide the failure that it explains.
    """
    parts: dict[str, Callable[[], str]] = {
        "the last status": lambda: str(operators[-1].document()),
        "the journal": lambda: _text(journal),
        "the engine has": lambda: str(Inventory.of(engine)),
    }
    for number, operator in enumerate(operators, 1):
        parts[f"the log of loader {number}"] = partial(_tail, operator.loader.process)
    parts["the log of the engine"] = partial(_tail, engine.process)
    return "\n".join(f"== {title}\n{_told(part)}" for title, part in parts.items())


def _told(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception as exc:  # noqa: BLE001  whatever it is, the other parts must be told
        return f"{type(exc).__name__}: {exc}"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else "none"


def _tail(process: ManagedProcess | None) -> str:
    lines = process.stderr().splitlines()[-LOG_LINES:] if process is not None else ["not started by the tests"]
    return "\n".join(line[:LINE_CHARACTERS] for line in lines)
