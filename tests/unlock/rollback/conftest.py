"""Rollbacks that lose no time between two looks at the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def quick() -> Iterator[None]:
    """Look again at once. Of the package, because a thread of one test may still look in the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loader.unlock.rollback.RETRY_SECONDS", 0.02)
        yield
