"""More than 10,000 hostile requests beside slow clients: the loader responds, and nothing of them stays."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from socket import SHUT_WR
from typing import Protocol

import pytest

from tests.conftest import TOLD
from tests.support.http_calls import call, load, open_socket
from tests.support.left_files import left
from tests.support.processes import poll
from tests.support.procfs import Footprint, footprint, peak_rss_bytes, reset_peak_rss
from tests.support.sealed_objects import debris
from tests.support.sites import Site, real_site
from tests.web.hostile import bodies, heads, names
from tests.web.hostile.delivery import STATUS_LINE, Outcome, deliver, exchange
from tests.web.hostile.requests import FOLDER, FORM, FORM_TYPE, NAME, Attack, Attacks, head, with_length
from tests.web.hostile.slow import FIRST_BYTES, HealthProber, SlowClients

MIB = 1 << 20
AT_LEAST = 10_000
LOADER_THREADS = 32
# Caches of the interpreter and of the allocator grow once.
RSS_GROWTH = 24 * MIB
# The number of pooled connections to the API may differ by two.
DESCRIPTORS_MORE = 4
REST_SECONDS = 20.0
PROBE_SECONDS = 2.0
DOCUMENTED_FAULTS = {502, 503, 507}
# gunicorn itself responds so to an unknown transfer coding (RFC 9112, section 6.1).
UNKNOWN_CODING = (501, "")
HUGE = 200 * MIB
FORM_URLENCODED = b"Content-Type: application/x-www-form-urlencoded\r\n"
STORED_NAME = re.compile(r"/resources/([A-Za-z0-9][A-Za-z0-9._-]{0,127}/)*[A-Za-z0-9][A-Za-z0-9._-]*\.(small|big)")


class RecordProperty(Protocol):
    """The type of pytest's fixture `record_property`."""

    def __call__(self, name: str, value: object) -> None: ...


def all_attacks() -> Attacks:
    """Return every class of attack. Attacks that can share a connection follow each other."""
    return chain(
        *(names.in_paths(1_900), names.in_json(900), names.in_forms(900), names.raw_bytes(400)),
        *(heads.single_headers(), heads.doubled_headers(), heads.binary_headers(600), heads.huge_headers()),
        *(heads.request_lines(), heads.garbage(900)),
        *(bodies.cut_bodies(), bodies.wrong_lengths(), bodies.broken_chunks(), bodies.wrong_documents()),
        *(bodies.deep_documents(), bodies.broken_forms(900)),
    )


@dataclass(frozen=True)
class Attacked:
    """A loader after all attacks, and what the test observed meanwhile."""

    site: Site
    outcome: Outcome
    prober: HealthProber
    slow_connections: int
    before: Footprint
    worker: int
    files_before: set[Path]
    seconds: float


def files_of(site: Site) -> set[Path]:
    """Return all files below the directory of the device and its loader, with TMPDIR and without the API."""
    root = site.models.parents[1]
    return {path for path in left(root.rglob("*")) if root / "resource-api" not in path.parents}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """Attack a loader that is logged in. A first round fills caches that grow once; the measured round follows."""
    directory = tmp_path_factory.mktemp("hostile")
    (scratch := directory / "scratch").mkdir()
    with real_site(directory, LOADER_THREADS=str(LOADER_THREADS), TMPDIR=str(scratch)) as site:
        deliver(site.url, chain(names.in_paths(300), names.in_forms(300), heads.garbage(300), bodies.deep_documents()))
        worker, files_before = site.loader.worker_pid, files_of(site)
        before = footprint(worker)
        started = time.monotonic()
        with HealthProber(site.url) as prober, SlowClients(site.url) as slow:
            poll(lambda: slow.opened >= len(FIRST_BYTES), REST_SECONDS, "all slow clients are connected")
            outcome = deliver(site.url, all_attacks())
        seconds = time.monotonic() - started
        yield Attacked(site, outcome, prober, slow.opened, before, worker, files_before, seconds)


def test_all_hostile_requests_are_sent(attacked: Attacked, record_property: RecordProperty) -> None:
    outcome = attacked.outcome
    assert sum(outcome.sent.values()) >= AT_LEAST
    answered = sum(outcome.answers.values())
    # A request that is cut before the end of its head gets no response.
    assert answered > AT_LEAST * 0.7
    by_status = ", ".join(f"{status}: {count}" for status, count in sorted(outcome.answers.items()) if count)
    record_property(
        TOLD,
        f"hostile requests: {sum(outcome.sent.values())} in {attacked.seconds:.1f} s, answers {by_status}, "
        f"{outcome.html} by gunicorn itself; slowest /health {attacked.prober.slowest:.2f} s",
    )


def test_no_response_is_an_internal_error(attacked: Attacked) -> None:
    examples = attacked.outcome.examples
    others = {key: sent for key, sent in examples.items() if key[0] not in DOCUMENTED_FAULTS or not key[1]}
    assert others.keys() <= {UNKNOWN_CODING}, others
    assert attacked.outcome.answers[200] > 0


def test_health_responds_throughout(attacked: Attacked) -> None:
    assert set(attacked.prober.answers) == {200}
    assert attacked.prober.slowest < PROBE_SECONDS


def test_slow_clients_were_connected_and_were_cut(attacked: Attacked) -> None:
    assert attacked.slow_connections > len(FIRST_BYTES)


def test_the_log_is_json_without_a_traceback(attacked: Attacked) -> None:
    assert attacked.site.loader.log_lines()
    assert "Traceback" not in attacked.site.loader.process.stderr()
    assert attacked.site.loader.process.stdout() == ""


def test_the_worker_survives_and_holds_no_more_than_before(attacked: Attacked) -> None:
    worker, before = attacked.worker, attacked.before
    assert attacked.site.loader.worker_pid == worker
    # The server starts threads when it needs them, up to their number.
    most_threads = max(before.threads, LOADER_THREADS + 4)
    poll(lambda: footprint(worker).threads <= most_threads, REST_SECONDS, "no thread too many")
    # Each thread keeps its latest connection to the API for its next request.
    few = before.descriptors + DESCRIPTORS_MORE + max(0, footprint(worker).threads - before.threads)
    poll(lambda: footprint(worker).descriptors <= few, REST_SECONDS, "no descriptor too many")
    assert footprint(worker).rss - before.rss < RSS_GROWTH


def test_no_unexpected_file_is_written(attacked: Attacked) -> None:
    poll(lambda: not debris(attacked.site.models), REST_SECONDS, "the cache holds whole parts only")
    assert files_of(attacked.site) == attacked.files_before


def test_nothing_is_uploaded_under_a_name_that_is_not_valid(attacked: Attacked) -> None:
    put = {request.path for request in attacked.site.api.requests("PUT")}
    assert f"/resources/{FOLDER}/{NAME}.small" in put
    assert all(STORED_NAME.fullmatch(path) and ".." not in path for path in put)


def test_requests_pipelined_behind_a_refusal_are_sent_again(attacked: Attacked) -> None:
    """The failing twin of the count: without the repeat, attacks behind a refusal would be counted and never arrive."""
    right, wrong = head(b"GET", b"/health"), head(b"GET", b"/health", b"no colon\r\n")
    outcome = deliver(attacked.site.url, [Attack("any", raw, framed=True) for raw in (right, wrong, right, right)])
    assert outcome.answers == {200: 3, 400: 1}
    assert outcome.html == 1


def test_honest_clients_are_served_afterwards(attacked: Attacked) -> None:
    url = attacked.site.url
    path = f"/upload/{NAME}".encode()
    assert exchange(url, with_length(b"POST", path, FORM, FORM_TYPE)).startswith(b"HTTP/1.1 200 ")
    assert load(url, FOLDER, NAME).body == b"content"
    assert call(url, "GET", "/status").json()["authenticated"] is True


def test_a_huge_body_of_the_wrong_type_is_refused_and_not_kept(attacked: Attacked) -> None:
    worker = attacked.worker
    reset_peak_rss(worker)
    before, piece = peak_rss_bytes(worker), b"a=%41&" * (MIB // 6)
    with open_socket(attacked.site.url) as connection:
        length = b"Content-Length: %d\r\n" % (len(piece) * (HUGE // len(piece)))
        connection.sendall(head(b"POST", f"/upload/{NAME}".encode(), FORM_URLENCODED, length))
        for _ in range(HUGE // len(piece)):
            connection.sendall(piece)
        connection.shutdown(SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert STATUS_LINE.findall(answer) == [b"415"]
    assert b"UNSUPPORTED_MEDIA_TYPE" in answer
    assert peak_rss_bytes(worker) - before < 8 * MIB
