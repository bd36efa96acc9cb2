"""`python -m tools.audit`: asks the public database whether a pinned package has a known vulnerability.

The exit code is 1 if a package has one. Without a connection to the database it prints a note, and the exit code is 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent.parent / "requirements.lock"
DEADLINE_SECONDS = 60
CANNOT_TELL = (ValueError, KeyError, subprocess.TimeoutExpired)


def main() -> int:
    """Run the audit, and return the exit code."""
    try:
        dependencies = audited(LOCK)
    except CANNOT_TELL as exc:
        print(f"audit: NOT DONE, the database of vulnerabilities cannot be reached: {exc}")
        return 0
    return report(dependencies)


def audited(lock: Path) -> list[dict[str, Any]]:
    """Return the result of pip-audit for each package of `lock`; raises one of `CANNOT_TELL` if there is none."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    command += ["--format=json", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    if not done.stdout:
        raise ValueError((done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1])
    found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return found


def report(dependencies: list[dict[str, Any]]) -> int:
    """Print the vulnerabilities and the packages that the database does not know, and return the exit code."""
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    if skipped:
        print(f"audit: NOT DONE, unknown to the database: {', '.join(skipped)}")
    flaws = [(each, flaw) for each in dependencies for flaw in each.get("vulns", [])]
    for each, flaw in flaws:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"audit: {each['name']} {each['version']} has {flaw['id']}, fixed in {fixed}")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
