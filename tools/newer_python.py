"""Runs the fast tests under newer versions of Python: those of Debian 13 and of the Debian after it.

    python -m tools.newer_python

Each version runs with the programs of its release, in a virtual environment in the user's cache. Needs root and
mmdebstrap. Ends with status 1 if a test has failed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.debian_root import DebianUnavailable, cache, debian_root, in_root

REPOSITORY = Path(__file__).parents[1]
RELEASES = ("trixie", "forky")
# What Python, tools/setup.sh and the fast tests start, and the library that tink and greenlet need.
PACKAGES = (
    "python3,python3-venv,ca-certificates,openssl,procps,iproute2,git,curl,make,mount,age,libstdc++6,nginx,xfsprogs,"
    "e2fsprogs,skopeo,gcc,libc6-dev"
)
PYTEST = ("-m", "not heavy", "--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder")


def main() -> int:
    """Return the exit status."""
    try:
        return max([tested(release) for release in RELEASES])
    except DebianUnavailable as exc:
        print(f"newer_python: {exc}", file=sys.stderr)
        return 1


def tested(release: str) -> int:
    """Return 1 if the tests failed with the Python of a release of Debian. Raises DebianUnavailable."""
    root = debian_root(release, "--include=?essential", f"--include={PACKAGES}")
    venv = cache() / f"venv-{root.name}"

    def run(*command: str) -> bool:
        return subprocess.run(in_root(root, command), cwd=REPOSITORY, check=False).returncode == 0

    passed = (
        run("tools/setup.sh", "/usr/bin/python3", str(venv))
        and run(f"{venv}/bin/python", "--version")
        # The cache is that of other tests, which pytest would take for its own.
        and run(f"{venv}/bin/pytest", "-p", "no:cacheprovider", *PYTEST)
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
