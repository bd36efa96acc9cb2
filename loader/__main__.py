"""`python -m loader`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from loader.cli.main import main

# Shells complete commands of one word: the name of the wrapper that docs/cli.md describes.
WRAPPER = "azaion-loader"
COMPLETION = "_AZAION_LOADER_COMPLETE"


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwinds, so that unfinished files are removed."""
    sys.exit(128 + number)


for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_DFL:  # what `nohup` ignores stays ignored
        signal.signal(number, _end)
main(prog_name=WRAPPER if COMPLETION in os.environ else "python -m loader", complete_var=COMPLETION)
