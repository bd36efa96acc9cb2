"""A missing counterpart skips the test visibly, or fails it if everything is required."""

from __future__ import annotations

import pytest

from tests.support.missing import missing, not_run


def test_a_missing_counterpart_skips_the_test_of_a_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="MISSING engine: not installed"):
        missing("engine", "not installed")


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("REQUIRE_ALL", "1")])
def test_a_missing_counterpart_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(pytest.fail.Exception, match="MISSING engine: not installed"):
        missing("engine", "not installed")


def test_missing_counterparts_are_counted_without_other_skips() -> None:
    def skipped(reason: str) -> pytest.TestReport:
        place = ("test_x.py", 1, f"Skipped: {reason}")
        return pytest.TestReport("test_x.py::test", ("test_x.py", 1, "test"), {}, "skipped", place, "setup")

    reports = [skipped("MISSING engine: none"), skipped("MISSING engine: none"), skipped("not on Tuesdays")]
    assert not_run(reports) == {"engine: none": 2}
