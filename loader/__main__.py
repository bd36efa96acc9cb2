"""`python -m loader`: the same as the command `azaion-loader`."""

from __future__ import annotations

from loader.cli.main import run

if __name__ == "__main__":
    run()
