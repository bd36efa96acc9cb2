"""Uploads in parts through `ResourceStore`, with an API that cuts, stalls, lies, forgets and refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader import api_client
from loader.crypto.model_parts import ResourceName
from loader.errors import (
    ApiError,
    ApiProtocol,
    ApiUnreachable,
    BodyTruncated,
    Forbidden,
    LoaderError,
    NotLoggedIn,
    StorageError,
)
from loader.model_cache.cache import ModelCache
from loader.resources import ResourceStore
from loader.settings import Settings
from tests.support.fault_server import SeenRequest
from tests.support.faulty_api import Fault
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll
from tests.support.sealed_objects import debris
from tests.support.stores import Form, read_whole
from tests.support.upload_api import UploadApi, answer

MIB = 1 << 20
NAME = ResourceName("m", "x")
CONTENT = os.urandom(3 * MIB)
PIECES = [CONTENT[begin : begin + MIB // 4] for begin in range(0, len(CONTENT), MIB // 4)]
SECONDS = 10
# What a fault does to the n-th request of a kind, counted from 0; None leaves it healthy.
Faults = Callable[[int], Fault | None]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadApi]:
    """Return an API where this process is logged in, and to which all models but the smallest go in parts."""
    monkeypatch.setattr("loader.uploads.model.WHOLE_MAX_SIZE", 0)
    monkeypatch.setattr("loader.patience.FIRST_WAIT", 0.02)
    monkeypatch.setattr("loader.patience.OUTAGE_WAIT", 0.04)
    before = (api_client._settings, api_client._api_client)
    with UploadApi() as running:
        api_client.configure(Settings.from_env({"RESOURCE_API_URL": running.url, "API_READ_TIMEOUT": "1"}))
        api_client.get_api_client().login(EMAIL, PASSWORD)
        yield running
    api_client._settings, api_client._api_client = before


@pytest.fixture
def store(tmp_path: Path) -> ResourceStore:
    return ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 5), 5)


def upload(store: ResourceStore) -> None:
    store.store("x", Form("m", list(PIECES)))


def kind_of(seen: SeenRequest) -> str:
    """Return what a request of an upload is for."""
    last = seen.path.rpartition("/")[2]
    if seen.method == "PUT":
        return "part" if "/parts/" in seen.path else "small" if last.endswith(".small") else "whole"
    if seen.method == "POST":
        return {"urls": "urls", "complete": "complete", "uploads": "start"}.get(last, last)
    return "parts" if seen.path.startswith("/uploads/") and seen.method == "GET" else seen.method


def interfere(api: UploadApi, monkeypatch: pytest.MonkeyPatch, kind: str, fault: Faults, *, after: bool) -> None:
    """Let `fault` respond to requests of a kind; with `after` the API does first what was asked."""
    count = 0
    healthy = api.healthy_response

    def respond(seen: SeenRequest) -> Fault:
        nonlocal count
        if kind_of(seen) != kind:
            return healthy(seen)
        found, count = fault(count), count + 1
        if found is None:
            return healthy(seen)
        if after:
            healthy(seen)
        return found

    monkeypatch.setattr(api, "healthy_response", respond)


def every(period: int, fault: Fault) -> Faults:
    return lambda number: fault if number % period == 1 else None


def require_published(api: UploadApi, store: ResourceStore, models: Path) -> None:
    assert read_whole(store.load(NAME)) == CONTENT
    assert debris(models) == []
    assert [kind_of(put) for put in api.requests("PUT")][-1] == "small"
    assert api.removed == []


def test_a_model_is_sent_in_parts_and_published_at_the_end(
    api: UploadApi, store: ResourceStore, tmp_path: Path
) -> None:
    upload(store)
    require_published(api, store, tmp_path / "models")
    kinds = [kind_of(seen) for seen in api.requests()]
    assert "whole" not in kinds
    assert kinds.index("complete") > max(n for n, kind in enumerate(kinds) if kind == "part")
    assert kinds.index("small") > kinds.index("complete")
    (started,) = api.uploads.values()
    assert started.size == sum(map(len, started.parts.values()))
    # The part that was sent is kept, so the load did not fetch it.
    assert [seen.path for seen in api.requests("GET")] == ["/resources/m/x.small"] * 2


def test_the_first_parts_are_sent_while_the_rest_is_still_coming(api: UploadApi, store: ResourceStore) -> None:
    def pieces() -> Iterator[bytes]:
        yield CONTENT * 2
        poll(api.parts_sent, SECONDS, "the first part")
        yield CONTENT

    form = Form("m", PIECES * 3)
    form.file_pieces = pieces  # type: ignore[method-assign]
    store.store("x", form)
    assert read_whole(store.load(NAME)) == CONTENT * 3


CUT = Fault(silent=True)
PASSING = [Fault(500), Fault(503, headers={"Retry-After": "0"}), Fault(507), Fault(500, unread=True), Fault(429)]


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("kind", ["start", "urls", "part", "complete", "small"])
def test_what_passes_costs_only_time(
    api: UploadApi,
    store: ResourceStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    after: bool,
) -> None:
    step = 1 if kind in ("start", "complete", "small") else 2
    faults = {step * number: fault for number, fault in enumerate(PASSING)}
    interfere(api, monkeypatch, kind, faults.get, after=after)
    upload(store)
    require_published(api, store, tmp_path / "models")


@pytest.mark.parametrize("kind", ["start", "urls", "part", "complete"])
def test_a_response_that_never_comes_costs_only_time(
    api: UploadApi, store: ResourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    interfere(api, monkeypatch, kind, lambda n: CUT if n == 0 else None, after=True)
    upload(store)
    require_published(api, store, tmp_path / "models")


def test_a_part_that_arrived_without_its_response_is_not_sent_again(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfere(api, monkeypatch, "part", every(5, Fault(500)), after=True)
    upload(store)
    paths = [seen.path for seen in api.parts_sent()]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("status", [400, 403])
def test_addresses_that_have_expired_are_asked_for_again(
    api: UploadApi, store: ResourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    api.expired_status = status
    healthy = api.healthy_response

    def respond(seen: SeenRequest) -> Fault:
        arrived = sum(len(started.parts) for started in api.uploads.values())
        if kind_of(seen) == "part" and arrived in (4, 9):
            api.generation = arrived
        return healthy(seen)

    monkeypatch.setattr(api, "healthy_response", respond)
    upload(store)
    require_published(api, store, tmp_path / "models")
    assert status in {seen.status for seen in api.parts_sent()}


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_gets_no_token_and_its_refusal_asks_for_another_address(
    api: UploadApi, store: ResourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    api.store = api.url
    interfere(api, monkeypatch, "part", lambda n: Fault(status) if n % 7 == 3 else None, after=False)
    upload(store)
    require_published(api, store, tmp_path / "models")
    assert not [part for part in api.parts_sent() if "authorization" in part.headers]
    assert api.logins == 1


def test_an_address_that_is_refused_again_fails_the_upload(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfere(api, monkeypatch, "part", lambda _: Fault(403), after=False)
    with pytest.raises(ApiError, match="403"):
        upload(store)
    assert len(api.parts_sent()) <= 4


@pytest.mark.parametrize("kind", ["part", "urls", "complete", "parts"])
def test_an_upload_that_the_api_has_lost_starts_again(
    api: UploadApi, store: ResourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    healthy = api.healthy_response
    left = 1

    def respond(seen: SeenRequest) -> Fault:
        nonlocal left
        if kind == "parts" and left and kind_of(seen) == "part":
            return Fault(500)
        if left and kind_of(seen) == kind:
            left = 0
            api.uploads.clear()
        return healthy(seen)

    monkeypatch.setattr(api, "healthy_response", respond)
    upload(store)
    require_published(api, store, tmp_path / "models")
    assert len(api.requests("POST", "/uploads")) == 2


def test_an_upload_that_the_api_loses_always_fails(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfere(api, monkeypatch, "complete", lambda _: Fault(404), after=False)
    with pytest.raises(ApiProtocol, match="loses"):
        upload(store)


def test_a_part_with_a_wrong_etag_is_sent_again(api: UploadApi, store: ResourceStore, tmp_path: Path) -> None:
    api.lies = {3, 7}
    upload(store)
    require_published(api, store, tmp_path / "models")
    paths = [seen.path for seen in api.parts_sent()]
    assert len(paths) == len(set(paths)) + 2


def test_a_list_of_parts_that_is_refused_without_a_reason_fails(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfere(api, monkeypatch, "complete", lambda _: Fault(409), after=False)
    with pytest.raises(ApiError, match="409"):
        upload(store)
    assert len(api.requests("POST", "/uploads/upload-1/complete")) == 1
    poll(lambda: api.removed == ["upload-1"], SECONDS, "the upload is removed")


@pytest.mark.parametrize("status", [404, 405, 409])
def test_an_api_that_takes_no_parts_gets_the_whole(
    api: UploadApi, store: ResourceStore, tmp_path: Path, status: int
) -> None:
    api.answer("POST", "/uploads", Fault(status))
    upload(store)
    require_published(api, store, tmp_path / "models")
    assert [kind_of(put) for put in api.requests("PUT")] == ["whole", "small"]


@pytest.mark.parametrize("seeming", [None, 0, len(CONTENT) - 1, len(CONTENT) + 1, 2 * len(CONTENT)])
def test_a_model_that_is_not_as_large_as_it_seemed_is_sent_whole(
    api: UploadApi, store: ResourceStore, tmp_path: Path, seeming: int | None
) -> None:
    form = Form("m", list(PIECES))
    form.seeming_size = seeming
    store.store("x", form)
    assert read_whole(store.load(NAME)) == CONTENT
    assert [kind_of(put) for put in api.requests("PUT") if kind_of(put) != "part"] == ["whole", "small"]
    poll(lambda: not api.uploads, SECONDS, "the upload is removed")
    assert debris(tmp_path / "models") == []


FORBIDDEN = Fault(403, b'{"code": "FORBIDDEN"}', {"Content-Type": "application/problem+json"})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (FORBIDDEN, Forbidden),
        (answer(201, upload="x"), ApiProtocol),
        (answer(201, upload="x", part_size=0), ApiProtocol),
        (answer(201, upload="x", part_size=1, min_part_size=2), ApiProtocol),
        (answer(201, upload=7, part_size=1), ApiProtocol),
    ],
)
def test_a_start_that_is_refused_or_makes_no_sense_fails_before_the_client_has_sent_all(
    api: UploadApi, store: ResourceStore, fault: Fault, error: type[LoaderError]
) -> None:
    api.answer("POST", "/uploads", fault)

    def pieces() -> Iterator[bytes]:
        while True:
            yield PIECES[0]

    form = Form("m", PIECES)
    form.file_pieces = pieces  # type: ignore[method-assign]
    with pytest.raises(error):
        store.store("x", form)
    assert api.requests("PUT") == []


@pytest.mark.parametrize(
    "urls",
    [
        None,
        [],
        [{"number": 1, "url": 7, "headers": []}],
        [{"number": 1, "url": "/x", "headers": ["X-Amz-Acl"]}],
        [{"number": 1, "url": "ftp://127.0.0.1/", "headers": []}],
        [{"number": 1, "url": "nothing", "headers": []}],
    ],
)
def test_addresses_that_make_no_sense_fail_the_upload(api: UploadApi, store: ResourceStore, urls: object) -> None:
    api.answer("POST", "/uploads/upload-1/urls", answer(200, urls=urls))
    with pytest.raises((ApiProtocol, ApiError)):
        upload(store)


@pytest.mark.parametrize("etag", [{}, {"ETag": ""}, {"ETag": "x" * 300}])
def test_a_part_without_an_etag_breaks_the_contract(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch, etag: dict[str, str]
) -> None:
    interfere(api, monkeypatch, "part", lambda _: Fault(headers=etag), after=False)
    with pytest.raises(ApiProtocol, match="ETag"):
        upload(store)


def test_patience_ends(api: UploadApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interfere(api, monkeypatch, "part", lambda _: Fault(503), after=False)
    store = ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 1), 0.5)
    with pytest.raises(ApiError, match="503"):
        upload(store)
    assert debris(tmp_path / "models") == []
    poll(lambda: api.removed == ["upload-1"], SECONDS, "the upload is removed")


@pytest.mark.parametrize("file_first", [False, True])
def test_a_client_that_goes_leaves_nothing(
    api: UploadApi, store: ResourceStore, tmp_path: Path, file_first: bool
) -> None:
    with pytest.raises(BodyTruncated):
        store.store("x", Form("m", list(PIECES), file_first=file_first, broken=True))
    poll(lambda: not api.uploads, SECONDS, "the upload is removed")
    assert api.objects == {}
    assert debris(tmp_path / "models") == []


def test_a_lock_ends_an_upload_whose_part_waits(api: UploadApi, store: ResourceStore, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        api.answer("POST", "/uploads/upload-1/urls", Fault(silent=True))
        storing = pool.submit(upload, store)
        poll(lambda: api.requests("POST", "/uploads/upload-1/urls"), SECONDS, "a request for addresses")
        api_client.forget_login()
        with pytest.raises(NotLoggedIn):
            storing.result(SECONDS)
    assert api.objects == {}
    assert debris(tmp_path / "models") == []


def test_a_disk_that_fails_meanwhile_is_no_fault_of_the_api(
    api: UploadApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preadv(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("loader.files.os.preadv", preadv)
    with pytest.raises(StorageError):
        upload(store)
    poll(lambda: api.removed == ["upload-1"], SECONDS, "the upload is removed")


def test_a_token_that_expires_between_parts_is_renewed(
    api: UploadApi, store: ResourceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfere(api, monkeypatch, "urls", lambda n: Fault(401) if n == 1 else None, after=False)
    upload(store)
    require_published(api, store, tmp_path / "models")
    assert api.logins == 2


@pytest.mark.long
def test_an_api_that_goes_away_fails_the_upload_once_patience_ends(tmp_path: Path, api: UploadApi) -> None:
    store = ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 1), 0.3)
    api.answer_all("PUT", Fault(silent=True))
    api.answer("GET", "/uploads/upload-1", Fault(silent=True))
    with pytest.raises(ApiUnreachable):
        upload(store)
