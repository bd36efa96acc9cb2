"""A counterpart that this machine does not have: a loud skip for a developer, a failure in CI."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

MARK = "MISSING "


def everything_is_required() -> bool:
    """True in CI (`CI=true`) or with `REQUIRE_ALL=1`, where a skipped counterpart is a failure."""
    return os.environ.get("CI") == "true" or os.environ.get("REQUIRE_ALL") == "1"


def missing(what: str, why: str) -> NoReturn:
    """Ends the test because `what` is not there: fails where everything is required, else skips with `MARK`."""
    message = f"{MARK}{what}: {why}"
    if everything_is_required():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def not_run(skipped: list[pytest.TestReport]) -> Counter[str]:
    """The messages of `missing` among the skipped tests, each with the number of tests that it kept from running."""
    messages: Counter[str] = Counter()
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, mark, message = reason.partition(MARK)
        if mark:
            messages[message] += 1
    return messages
