"""A process that fetches, and is killed just before it removes the head of what it has put in its place."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from loader.blob_directory import FETCHED_NAME
from tests.fetch.killed import fetch


def main(device: Path, url: str) -> None:
    """Fetch on the `device` until the kill."""
    unlink = os.unlink

    def dying(path: Any, *arguments: Any, **options: Any) -> None:
        if Path(path).name == FETCHED_NAME:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, *arguments, **options)

    os.unlink = dying
    fetch(device, url)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
