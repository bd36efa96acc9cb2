"""`python -m tools.audit`: asks the public database whether a pinned package has a known vulnerability.

It ends with 1 if one has. A machine that cannot reach the database learns so from a printed note, and goes on.
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
    """The exit code."""
    try:
        dependencies = audited(LOCK)
    except CANNOT_TELL as exc:
        print(f"audit: NOT DONE, the database of vulnerabilities is out of reach: {exc}")
        return 0
    return report(dependencies)


def audited(lock: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package of `lock`; raises one of `CANNOT_TELL` if it cannot."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    command += ["--format=json", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    if not done.stdout:
        raise ValueError((done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1])
    found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return found


def report(dependencies: list[dict[str, Any]]) -> int:
    """Print what was found, and what was not looked at; the exit code."""
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
