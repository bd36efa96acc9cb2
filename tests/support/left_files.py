"""What lies in the directories of a device, without the file that every login and unlock writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from loader.last_events import NAME


def left(paths: Iterable[Path]) -> list[Path]:
    """Return `paths` in order, without the file of the last events, and without the one that is to replace it."""
    return sorted(path for path in paths if NAME not in path.name)
