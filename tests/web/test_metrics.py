"""GET /metrics: what it tells before and after each kind of work, to whom, and that it waits for nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.last_events import NAME
from loader.unlock_state import CHECKING, RUN_STEPS, UnlockState
from loader.version import VERSION
from resource_api.accounts import Role
from tests.fetch.published import VERSION as RELEASE
from tests.fetch.published import Fetcher, objects, release, write_objects
from tests.support.archives import VERSION as PACKED_VERSION
from tests.support.archives import Packed
from tests.support.engines import Engine
from tests.support.http_calls import CREDENTIALS, EMAIL, PASSWORD, SECRETS, call, load, login, post_json, upload
from tests.support.loads import OpenLoad
from tests.support.processes import poll
from tests.support.range_sites import range_site
from tests.support.resource_api_server import ResourceApiServer
from tests.support.scrapes import CONTENT_TYPE, Scrape, scrape
from tests.support.sites import NOBODY_LISTENS, BareSite, bare_site
from tests.support.stored_resources import MIB, store_resource
from tests.support.unlocking import READY, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

SECONDS = 30.0
SIZE = 3_000_000
FOLDER, MODEL = "secret-folder", "secret-model"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    """A reference API with a publisher and release 1."""
    directory = tmp_path_factory.mktemp("api")
    with ResourceApiServer(directory) as server:
        server.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        write_objects(server.data_dir / "resources", objects(release(directory / "1.enc", 1)))
        yield server


def scraped(url: str, fits: Callable[[Scrape], bool], what: str) -> Scrape:
    """Return the first scrape that fits: the loader may count a moment after its response."""
    seen: list[Scrape] = []

    def look() -> bool:
        seen.append(scrape(url))
        return fits(seen[-1])

    poll(look, SECONDS, what)
    return seen[-1]


def test_a_fresh_loader_knows_its_version_and_nothing_else(tmp_path: Path) -> None:
    with bare_site(tmp_path, MAX_TRANSFERS="5", MODEL_CACHE_MAX_BYTES="1000000") as site:
        seen = scrape(site.url)
    assert seen.value("info", version=VERSION) == 1
    assert (seen.value("authenticated"), seen.value("api_lost"), seen.value("unlock_proven")) == (0, 0, 0)
    assert seen.labels("unlock_state") == [{"state": UnlockState.IDLE}]
    assert seen.labels("fetch_state") == [{"state": "idle"}]
    assert seen.labels("release_info") == seen.labels("last_success_timestamp_seconds") == []
    assert (seen.value("transfer_slots"), seen.value("transfer_slots_taken")) == (5, 0)
    assert (seen.value("cache_parts"), seen.value("cache_bytes"), seen.value("cache_limit_bytes")) == (0, 0, 1_000_000)
    assert (seen.value("cache_free_bytes") or 0) > 0
    assert seen.value("downloads") == 0
    assert seen.value("operations_total", event="load", outcome="ok", code="") == 0
    assert 0 < seen.samples[("process_start_time_seconds", frozenset())] <= time.time()
    assert "_created" not in seen.text


def test_what_a_device_does_is_told(api: ResourceApiServer, tmp_path: Path) -> None:
    with bare_site(tmp_path, api.url, API_VERSION=RELEASE) as site:
        began = int(time.time())
        assert login(site.url, {**CREDENTIALS, "password": "wrong"}).status == 401
        seen = scrape(site.url)
        assert (seen.value("authenticated"), seen.value("api_lost")) == (0, 0)
        assert seen.value("operations_total", event="login", outcome="failed", code="LOGIN_REJECTED") == 1
        assert seen.value("http_requests_total", route="auth.login", status="401", code="LOGIN_REJECTED") == 1
        assert seen.value("last_failed", event="login") == 1
        assert seen.value("last_success_timestamp_seconds", event="login") is None

        assert login(site.url).status == 200
        seen = scrape(site.url)
        assert (seen.value("authenticated"), seen.value("last_failed", event="login")) == (1, 0)
        assert (seen.value("last_success_timestamp_seconds", event="login") or 0) >= began
        assert seen.labels("release_info") == [{"place": "expected", "version": RELEASE}]

        assert upload(site.url, FOLDER, MODEL, bytes(SIZE)).status == 200
        assert load(site.url, FOLDER, MODEL).status == 200
        assert load(site.url, FOLDER, "nothing").status == 404
        loaded = {"event": "load", "outcome": "ok", "code": ""}
        seen = scraped(site.url, lambda seen: seen.value("operations_total", **loaded) == 1, "the load is counted")
        assert seen.value("operations_total", event="load", outcome="failed", code="RESOURCE_NOT_FOUND") == 1
        assert seen.value("http_requests_total", route="resources.load", status="200", code="") == 1
        assert seen.value("cache_parts") == 1
        assert seen.value("cache_bytes") == sum(path.stat().st_size for path in site.models.glob("*.big"))
        for event in ("load", "upload"):
            assert (seen.value("last_success_timestamp_seconds", event=event) or 0) >= began

        assert Fetcher(site.url, tmp_path / "device" / "images.enc").fetch()["state"] == "fetched"
        seen = scrape(site.url)
        assert seen.labels("fetch_state") == [{"state": "fetched"}]
        assert seen.value("fetch_done_bytes") == seen.value("fetch_expected_bytes") != 0
        assert (seen.value("last_success_timestamp_seconds", event="fetch") or 0) >= began
        assert seen.value("release_serial", place="installed") == 1
        assert seen.value("release_proven", place="installed") == 0
        assert {"place": "installed", "version": RELEASE} in seen.labels("release_info")

        # There is no engine.
        assert post_json(site.url, "/unlock", CREDENTIALS).status == 200
        seen = scraped(site.url, lambda seen: seen.value("last_failed", event="unlock") == 1, "the unlock has failed")
        assert seen.value("operations_total", event="unlock", outcome="failed", code="ENGINE_UNAVAILABLE") == 1
        assert seen.labels("unlock_state") == [{"state": "error"}]
        assert seen.value("last_success_timestamp_seconds", event="unlock") is None
        assert seen.value("unlock_step_seconds", step=CHECKING) is not None

        for word in (*SECRETS, EMAIL, FOLDER, MODEL, "nothing", "127.0.0.1", str(tmp_path)):
            assert word not in seen.text


def test_the_last_success_of_login_unlock_and_fetch_survives_a_restart(api: ResourceApiServer, tmp_path: Path) -> None:
    with bare_site(tmp_path, api.url) as site:
        assert login(site.url).status == 200
        succeeded = scrape(site.url).value("last_success_timestamp_seconds", event="login")
    with bare_site(tmp_path, NOBODY_LISTENS) as site:
        assert scrape(site.url).value("last_failed", event="login") == 0
        assert login(site.url).status == 503
        seen = scrape(site.url)
        assert (seen.value("last_failed", event="login"), seen.value("api_lost")) == (1, 1)
        assert seen.value("last_success_timestamp_seconds", event="login") == succeeded is not None
        assert seen.value("operations_total", event="login", outcome="ok", code="") == 0
        (site.models / NAME).write_bytes(b"{")
        assert scrape(site.url).labels("last_success_timestamp_seconds") == []


def test_an_unlock_is_told_with_its_steps_and_what_was_proven(
    docker: Engine, unlock_device: UnlockDevice, packed: Packed
) -> None:
    operator = unlock_device.start(docker.host)
    unlock_device.put(packed.path)
    url = operator.loader.url
    assert scrape(url).value("release_proven", place="installed") == 0
    assert operator.unlock() == READY
    success = {"event": "unlock"}
    seen = scraped(url, lambda seen: bool(seen.value("last_success_timestamp_seconds", **success)), "a success")
    assert (seen.labels("unlock_state"), seen.value("unlock_proven")) == ([{"state": "ready"}], 1)
    assert {each["step"] for each in seen.labels("unlock_step_seconds")} == set(RUN_STEPS)
    places = ("expected", "installed", "present")
    assert all(seen.value("release_info", place=place, version=PACKED_VERSION) == 1 for place in places)
    assert seen.value("release_proven", place="installed") == seen.value("release_proven", place="present") == 1
    unlock_device.archive.write_bytes(b"no archive")
    assert scrape(url).value("release_serial", place="installed") is None
    assert scrape(url).value("release_proven", place="present") == 1


def test_a_scrape_waits_for_nobody_while_an_unlock_runs(api: ResourceApiServer, tmp_path: Path) -> None:
    """The engine takes connections and never responds."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "docker.sock"))
        engine.listen()
        with bare_site(tmp_path, api.url, DOCKER_HOST=f"unix://{tmp_path}/docker.sock") as site:
            release(tmp_path / "device" / "images.enc", 1)
            assert post_json(site.url, "/unlock", CREDENTIALS).status == 200
            seen = scrape(site.url)
            assert seen.labels("unlock_state") == [{"state": "authenticating"}]
            assert [each["step"] for each in seen.labels("unlock_step_seconds")] == [CHECKING]
            assert call(site.url, "GET", "/health").status == 200


def test_a_load_under_way_is_told_with_its_slot_and_its_download(tmp_path: Path) -> None:
    resource = store_resource(tmp_path, "slow", 8 * MIB)
    with range_site(tmp_path / "site") as site:
        held = resource.publish(site.api)
        held.rate = MIB
        with OpenLoad(site.url, resource.filename) as opened:
            assert opened.read(1) == 1
            seen = scrape(site.url)
            assert (seen.value("transfer_slots_taken"), seen.value("downloads")) == (1, 1)
            assert 0 < (seen.value("download_done_bytes") or 0) < resource.big.size
            assert seen.value("download_expected_bytes") == resource.big.size
            held.rate = None
            assert opened.finish().sha256 == resource.sha256
        seen = scraped(
            site.url, lambda seen: not (seen.value("downloads") or seen.value("transfer_slots_taken")), "end"
        )
        assert (seen.value("download_expected_bytes"), seen.value("cache_parts")) == (0, 1)


def test_it_needs_no_login_and_a_trusted_host(lonely: BareSite) -> None:
    get, head = call(lonely.url, "GET", "/metrics"), call(lonely.url, "HEAD", "/metrics")
    assert (get.status, head.status, head.body) == (200, 200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"] == CONTENT_TYPE
    assert get.headers["Cache-Control"] == "no-store"
    call(lonely.url, "GET", "/metrics", headers={"Host": "evil.example"}).problem(400, "UNTRUSTED_HOST")
    call(lonely.url, "POST", "/metrics").problem(405, "METHOD_NOT_ALLOWED")
    call(lonely.url, "GET", "/metrics/").problem(404, "NOT_FOUND")
    seen = scrape(lonely.url)
    assert (seen.value("http_requests_total", route="metrics.metrics", status="400", code="UNTRUSTED_HOST") or 0) >= 1
    assert (seen.value("http_requests_total", route="none", status="405", code="METHOD_NOT_ALLOWED") or 0) >= 1


def test_names_of_routes_do_not_grow_with_what_clients_ask_for(lonely: BareSite) -> None:
    before = len(scrape(lonely.url).samples)
    for number in range(3):
        assert call(lonely.url, "GET", f"/nothing/{number}").status == 404
        assert call(lonely.url, "GET", f"/models/folder/{number}").status == 401
    once = len(scrape(lonely.url).samples)
    for number in range(20):
        assert call(lonely.url, "GET", f"/nothing-else/{number}").status == 404
        assert call(lonely.url, "GET", f"/models/other/{number}").status == 401
    assert len(scrape(lonely.url).samples) == once <= before + 4
