"""The helpers of the hostile tests count responses, faults and failed probes."""

from __future__ import annotations

from tests.support.processes import poll
from tests.support.sites import NOBODY_LISTENS
from tests.web.hostile.delivery import Outcome
from tests.web.hostile.slow import HealthProber

SECONDS = 10.0


def test_statuses_faults_and_html_bodies_are_counted() -> None:
    outcome = Outcome()
    count = outcome.note(
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"code": "BUSY"}'
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n<html>"
        b"HTTP/1.1 200 OK\r\n\r\ncontent"
    )
    assert count == 3
    assert outcome.answers == {503: 1, 500: 1, 200: 1}
    assert outcome.faults == {(503, "BUSY"): 1, (500, ""): 1}
    assert outcome.html == 1
    assert outcome.note(b"") == 0


def test_a_prober_counts_a_missing_response_as_none() -> None:
    with HealthProber(NOBODY_LISTENS) as prober:
        poll(lambda: sum(prober.answers.values()) >= 2, SECONDS, "two probes")
    assert set(prober.answers) == {None}
