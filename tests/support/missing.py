"""Handles a counterpart that this machine lacks: the test is skipped visibly for a developer, and fails in CI."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

MARK = "MISSING "


def missing(what: str, why: str) -> NoReturn:
    """End the test because `what` is missing: fail it in CI or with REQUIRE_ALL=1, otherwise skip it with `MARK`."""
    message = f"{MARK}{what}: {why}"
    if os.environ.get("CI") == "true" or os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def not_run(skipped: list[pytest.TestReport]) -> Counter[str]:
    """Return the messages of `missing` among the skipped tests, each with the number of tests that it skipped."""
    messages: Counter[str] = Counter()
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, mark, message = reason.partition(MARK)
        if mark:
            messages[message] += 1
    return messages
