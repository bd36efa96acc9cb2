"""The login throttle over HTTP: which requests count, for which client, and which logins reach the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.breakable_api import BreakableApi, says
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import CREDENTIALS, Reply, call, load, login, post_json
from tests.support.http_probe import connect, socket_path
from tests.support.left_files import left
from tests.support.nginx_server import HOST_NAME, nginx
from tests.support.planted import plant
from tests.support.portals import PORTALS
from tests.support.processes import poll
from tests.support.sites import BareSite, FaultySite, bare_site, faulty_site

WRONG = {**CREDENTIALS, "password": "planted-wrong-password"}
SECONDS = 20
SOURCE = "X-Source"
plant(WRONG["password"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FaultySite]:
    """A loader that is logged in at an API that rejects every further login."""
    with faulty_site(tmp_path) as running:
        running.api.answer("POST", "/login", Fault(401))
        yield running


def refused(url: str, times: int) -> None:
    for _ in range(times):
        login(url, WRONG).problem(401, "LOGIN_REJECTED")


def throttled(reply: Reply) -> int:
    """Require a throttled login, and return the seconds that it must wait."""
    assert reply.problem(429, "LOGIN_THROTTLED")["retryable"] is True
    return int(reply.headers["Retry-After"])


def test_sixth_login_is_refused_without_asking_the_api(site: FaultySite) -> None:
    asked = len(site.api.requests("POST", "/login"))
    refused(site.url, 5)
    waits = [throttled(login(site.url, WRONG)), throttled(login(site.url)), throttled(login(site.url))]
    assert waits == [10, 10, 10]
    assert len(site.api.requests("POST", "/login")) == asked + 5
    assert site.audit_lines("login")[-1]["code"] == "LOGIN_THROTTLED"
    assert len(site.audit_lines("login")) == 1 + 5 + 3


def put_archive(running: BareSite) -> None:
    """Put an archive in place, so that an unlock can start."""
    seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])


def test_only_login_and_unlock_are_throttled(site: FaultySite) -> None:
    put_archive(site)
    refused(site.url, 5)
    throttled(post_json(site.url, "/unlock", CREDENTIALS))
    (line,) = site.audit_lines("unlock")
    assert (line["outcome"], line["code"]) == ("failed", "LOGIN_THROTTLED")
    load(site.url, "m", "nothing").problem(404, "RESOURCE_NOT_FOUND")
    login(site.url, {}).problem(422, "VALIDATION_FAILED")
    assert call(site.url, "GET", "/status").json()["authenticated"] is True


def test_accepted_login_clears_the_count(site: FaultySite) -> None:
    refused(site.url, 4)
    site.api.answer("POST", "/login", Fault(body=b'{"token": "token-9"}'))
    assert login(site.url).status == 200
    site.api.answer("POST", "/login", Fault(401))
    refused(site.url, 4)


def test_only_rejections_by_the_api_count(site: FaultySite) -> None:
    site.api.answer("POST", "/login", Fault(500))
    for _ in range(7):
        login(site.url, WRONG).problem(502, "API_ERROR")


def test_of_many_logins_at_once_five_reach_the_api(site: FaultySite) -> None:
    asked = len(site.api.requests("POST", "/login"))
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: login(site.url, WRONG), range(16)))
    assert sorted({reply.status for reply in replies}) == [401, 429]
    assert len(site.api.requests("POST", "/login")) == asked + 5


def test_the_throttle_writes_nothing_to_the_disk(site: FaultySite) -> None:
    before = left(site.models.parent.rglob("*"))
    refused(site.url, 5)
    throttled(login(site.url))
    assert left(site.models.parent.rglob("*")) == before


@pytest.mark.parametrize("portal", ["a page without a type", "a status of proxies"])
def test_a_portal_rejects_no_password(tmp_path: Path, portal: str) -> None:
    with BreakableApi() as api, bare_site(tmp_path, api.url) as site:
        api.behaviour = says(PORTALS[portal])
        for _ in range(7):
            login(site.url).problem(503, "API_UNREACHABLE")
        api.behaviour = None
        assert login(site.url).status == 200


def test_rejected_logins_of_unlocks_count(tmp_path: Path) -> None:
    with (
        FaultyApi() as api,
        FakeEngine(tmp_path / "engine.sock", lambda request: request.respond(500, {})) as engine,
        bare_site(tmp_path / "loader", api.url, DOCKER_HOST=engine.host, API_VERSION="1.4") as running,
    ):
        put_archive(running)
        api.answer("POST", "/login", Fault(401))
        for number in range(5):
            assert post_json(running.url, "/unlock", WRONG).status == 200
            running.next_audit_line("unlock", number)
        throttled(post_json(running.url, "/unlock", WRONG))
        throttled(login(running.url, WRONG))
        assert len(api.requests("POST", "/login")) == 5
        codes = [line["code"] for line in running.audit_lines("unlock")]
        assert codes == ["LOGIN_REJECTED"] * 5 + ["LOGIN_THROTTLED"]


def test_over_tcp_a_forwarded_address_does_not_count(site: FaultySite) -> None:
    for number in range(5):
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        post_json(site.url, "/login", WRONG, headers).problem(401, "LOGIN_REJECTED")
    throttled(post_json(site.url, "/login", WRONG, {"X-Forwarded-For": "198.51.100.99"}))


@pytest.fixture
def on_unix_socket(tmp_path: Path) -> Iterator[BareSite]:
    """A loader on a unix socket, with an API that rejects every login."""
    with FaultyApi() as api:
        api.answer("POST", "/login", Fault(401))
        with bare_site(tmp_path / "loader", api.url, LOADER_BIND=f"unix:{tmp_path}/loader.sock") as running:
            yield running


def status_of_login(running: BareSite, forwarded_for: str | None) -> int:
    with closing(connect(running.url, SECONDS)) as connection:
        headers = {"Content-Type": "application/json"}
        if forwarded_for is not None:
            headers["X-Forwarded-For"] = forwarded_for
        connection.request("POST", "/login", json.dumps(WRONG), headers)
        with connection.getresponse() as response:
            return response.status


def test_on_a_unix_socket_the_last_forwarded_address_counts(on_unix_socket: BareSite) -> None:
    claims = ["192.0.2.7", "192.0.2.1, 192.0.2.7", "127.0.0.1,192.0.2.7", "x, 192.0.2.7", "192.0.2.7"]
    assert [status_of_login(on_unix_socket, claim) for claim in claims] == [401] * 5
    assert status_of_login(on_unix_socket, "192.0.2.8, 192.0.2.7") == 429
    assert status_of_login(on_unix_socket, "192.0.2.7, 192.0.2.8") == 401
    # All requests without a valid address count as one client.
    assert [status_of_login(on_unix_socket, claim) for claim in (None, "", "unknown", "x" * 999, "1,")] == [401] * 5
    assert status_of_login(on_unix_socket, "another name") == 429


def status_through_nginx(url: str, source: str, claim: str) -> int:
    """Return the status of a login from the address `source` with `claim` in X-Forwarded-For."""
    headers = {"Content-Type": "application/json", "Host": HOST_NAME, "X-Forwarded-For": claim, SOURCE: source}
    return call(url, "POST", "/login", json.dumps(WRONG).encode(), headers).status


def test_behind_nginx_each_client_has_an_account_of_its_own(on_unix_socket: BareSite, tmp_path: Path) -> None:
    """All clients of this test are on loopback, so nginx takes their addresses from a header."""
    believed = f"set_real_ip_from 127.0.0.1; real_ip_header {SOURCE};"
    changes = {"server_name localhost;": f"server_name localhost; {believed}"}
    with nginx(tmp_path / "nginx", Path(socket_path(on_unix_socket.url)), changes) as front:
        url = f"http://127.0.0.1:{front.port}"
        statuses = [status_through_nginx(url, "192.0.2.2", f"198.51.100.{number}") for number in range(6)]
        assert statuses == [401] * 5 + [429]
        assert status_through_nginx(url, "192.0.2.3", "192.0.2.2") == 401
        assert status_through_nginx(url, "127.0.0.1", "192.0.2.2") == 401


def test_all_addresses_of_loopback_are_one_client(site: FaultySite) -> None:
    port = urlsplit(site.url).port
    assert port is not None
    for number in range(1, 6):
        assert status_from(f"127.0.0.{number}", port) == 401
    assert status_from("127.0.0.6", port) == 429


def status_from(source: str, port: int) -> int:
    """Return the status of a login from the address `source`."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=SECONDS, source_address=(source, 0))) as connection:
        connection.request("POST", "/login", json.dumps(WRONG), {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status


@pytest.mark.parametrize("hanging", [1, 5, 8])
def test_logins_that_hang_do_not_lock_out_a_good_one(tmp_path: Path, hanging: int) -> None:
    impatient = json.dumps({"loader.login_throttle.LONGEST_TURN_SECONDS": 0.3})
    with faulty_site(tmp_path, API_READ_TIMEOUT="20", HASTE=impatient) as site, ThreadPoolExecutor(hanging) as pool:
        site.api.answer("POST", "/login", *[Fault(401, silent=True)] * hanging, Fault(body=b'{"token": "token-9"}'))
        asked = len(site.api.requests("POST", "/login"))
        held = [pool.submit(login, site.url, WRONG) for _ in range(hanging)]
        poll(lambda: len(site.api.requests("POST", "/login")) == asked + hanging, SECONDS, "the logins that hang")
        assert login(site.url).status == 200
        site.api.resume()
        assert [each.result().status for each in held] == [401] * hanging


def test_after_twenty_rejections_within_a_minute_only_their_clients_wait(on_unix_socket: BareSite) -> None:
    clients = [f"198.51.100.{number}" for number in range(20)]
    assert [status_of_login(on_unix_socket, client) for client in clients] == [401] * 20
    assert [status_of_login(on_unix_socket, client) for client in clients] == [429] * 20
    assert status_of_login(on_unix_socket, "192.0.2.1") == 401
    assert status_of_login(on_unix_socket, "192.0.2.1") == 429
    poll(lambda: len(on_unix_socket.audit_lines("login")) == 42, SECONDS, "the audit lines")
