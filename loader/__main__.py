"""`python -m loader`."""

from __future__ import annotations

from loader.cli import main

main(prog_name="python -m loader")
