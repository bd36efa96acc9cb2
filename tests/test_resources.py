"""Loads and uploads of resources through `ResourceStore`, without the web layer, with an API over HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from loader import api_client
from loader.crypto.model_parts import ResourceName, SmallPart
from loader.crypto.signatures import is_valid
from loader.errors import (
    ApiError,
    ApiUnreachable,
    BodyTruncated,
    NotLoggedIn,
    ResourceCorrupt,
    ResourceNotFound,
    StorageError,
)
from loader.model_cache.cache import ModelCache
from loader.model_trust import ModelTrust
from loader.resources import ResourceStore
from loader.settings import Settings
from tests.crypto.reference_model import model_document, small_object
from tests.support.fault_server import SeenRequest
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.flips import flipped
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll
from tests.support.publishers import ANNA, TRUSTED
from tests.support.sealed_objects import BOUNDARY_SIZES, debris, seal
from tests.support.signed_models import signed_model
from tests.support.stores import Form, read_whole

pytest_plugins = ("tests.support.store_fixtures",)

MIB = 1 << 20
NAME = ResourceName("m", "x")
CONTENT = bytes(range(256)) * (12 * 1024)


@pytest.fixture
def store(tmp_path: Path) -> ResourceStore:
    """Return a store whose directory does not exist yet."""
    return ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 1), 1)


@pytest.mark.parametrize("file_first", [False, True])
@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.usefixtures("logged_in")
def test_a_load_returns_the_content_that_was_stored(
    store: ResourceStore, tmp_path: Path, size: int, file_first: bool
) -> None:
    content = (CONTENT * 3)[:size]
    name, stored = store.store("x", Form("m", [content[:1000], content[1000:]], file_first=file_first))
    assert (name, stored) == (NAME, len(content))
    plaintext = store.load(NAME)
    assert (plaintext.size, plaintext.sent) == (len(content), 0)
    assert read_whole(plaintext) == content
    assert plaintext.sent == len(content)
    assert debris(tmp_path / "models") == []
    assert (tmp_path / "models").stat().st_mode & 0o777 == 0o700


def test_nothing_is_loaded_or_stored_before_a_login(api: FaultyApi, store: ResourceStore, tmp_path: Path) -> None:
    with pytest.raises(NotLoggedIn):
        store.load(NAME)
    with pytest.raises(NotLoggedIn):
        store.store("x", Form("m", [b"content"]))
    assert api.requests() == []
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("file_first", [False, True])
def test_nothing_is_uploaded_of_a_truncated_form(
    logged_in: FaultyApi, store: ResourceStore, tmp_path: Path, file_first: bool
) -> None:
    with pytest.raises(BodyTruncated):
        store.store("x", Form("m", [CONTENT], file_first=file_first, broken=True))
    assert logged_in.requests("PUT") == []
    assert debris(tmp_path / "models") == []


def test_a_directory_that_cannot_be_created_raises_storage_error(logged_in: FaultyApi, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ResourceStore(tmp_path / "file" / "models", ModelCache(tmp_path / "file" / "models", 0, 1), 1)
    with pytest.raises(StorageError, match="file/models"):
        store.store("x", Form("m", [b"content"]))
    assert logged_in.requests("PUT") == []


def test_an_unknown_resource_is_requested_once(logged_in: FaultyApi, store: ResourceStore) -> None:
    with pytest.raises(ResourceNotFound):
        store.load(NAME)
    assert len(logged_in.requests("GET")) == 1


@pytest.mark.parametrize("failing", ["small", "big"])
@pytest.mark.parametrize("repaired", [False, True])
def test_a_damaged_object_is_fetched_again_only_once(
    logged_in: FaultyApi, store: ResourceStore, failing: str, repaired: bool
) -> None:
    sealed = seal("m", "x", CONTENT)
    logged_in.objects.update(sealed.as_objects())
    path, data = (sealed.small_path, sealed.small) if failing == "small" else (sealed.big_path, sealed.big)
    bad = Fault(body=flipped(data, 50))
    logged_in.answer("GET", path, bad, Fault(body=data) if repaired else bad)
    if repaired:
        assert read_whole(store.load(NAME)) == CONTENT
    else:
        with pytest.raises(ResourceCorrupt, match="m/x"):
            store.load(NAME)
    # The loader fetches a damaged segment alone first, and the whole part after that.
    assert 2 <= len(logged_in.requests("GET", path)) <= (2 if failing == "small" else 4)
    poll(lambda: logged_in.open_connections == 0, 5, "both downloads are closed")


def test_a_failure_during_a_load_raises_the_same_loader_error_again(logged_in: FaultyApi, store: ResourceStore) -> None:
    sealed = seal("m", "x", CONTENT)
    logged_in.objects.update(sealed.as_objects())
    logged_in.answer("GET", sealed.big_path, Fault(body=sealed.big, cut_after=2 * MIB))
    plaintext = store.load(NAME)
    arrived: list[bytes] = []
    with pytest.raises(ApiUnreachable):
        arrived.extend(plaintext)
    with pytest.raises(ApiUnreachable):
        next(plaintext)
    plaintext.close()
    assert CONTENT.startswith(b"".join(arrived))


def test_closing_the_plaintext_ends_the_download(logged_in: FaultyApi, store: ResourceStore) -> None:
    sealed = seal("m", "x", CONTENT)
    logged_in.objects.update(sealed.as_objects())
    logged_in.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=2 * MIB))
    plaintext = store.load(NAME)
    assert logged_in.open_connections == 1
    plaintext.close()
    poll(lambda: logged_in.open_connections == 0, 5, "the download is closed")


def test_an_object_of_another_resource_counts_as_damaged(logged_in: FaultyApi, store: ResourceStore) -> None:
    sealed = seal("m", "other", b"content of the other")
    logged_in.objects["/resources/m/x.small"] = sealed.small
    with pytest.raises(ResourceCorrupt):
        store.load(NAME)


@pytest.mark.parametrize(
    ("small", "damage"),
    [
        (b"no header", "it does not start with AZSMALL2"),
        (small_object(model_document(0, b"") | {"key": ""}, bytes(56)), "its field key is malformed"),
    ],
)
def test_a_damaged_small_part_is_described_in_a_whole_sentence(
    logged_in: FaultyApi, store: ResourceStore, small: bytes, damage: str
) -> None:
    logged_in.objects["/resources/m/x.small"] = small
    with pytest.raises(ResourceCorrupt) as caught:
        store.load(NAME)
    assert str(caught.value) == f"The small part of m/x is damaged: {damage}."


@pytest.mark.parametrize("file_first", [False, True])
@pytest.mark.parametrize("size", [1000, len(CONTENT)])
def test_a_lock_before_an_upload_lets_no_part_be_sent(
    store: ResourceStore, logged_in: FaultyApi, tmp_path: Path, size: int, file_first: bool
) -> None:
    form = Form("m", [CONTENT[:size]], file_first=file_first)
    form.at_end = api_client.forget_login
    with pytest.raises(NotLoggedIn):
        store.store("x", form)
    assert logged_in.requests("PUT") == []
    assert debris(tmp_path / "models") == []


def test_a_lock_between_small_part_and_first_byte_stops_the_load(
    store: ResourceStore, logged_in: FaultyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal("m", "x", CONTENT[:1000])
    logged_in.objects[sealed.small_path] = sealed.small
    client = api_client.get_api_client()

    def lock_after_fetch(_path: str) -> bytes:
        client.forget()
        return sealed.small

    monkeypatch.setattr(client, "small_object", lock_after_fetch)
    # The load itself must raise, because a started response can no longer report an error.
    with pytest.raises(NotLoggedIn):
        store.load(NAME)


@pytest.mark.usefixtures("api")
def test_a_lock_during_the_upload_of_a_part_cuts_it(store: ResourceStore) -> None:
    with FaultyApi(small_buffer=True) as slow, ThreadPoolExecutor(1) as pool:
        slow.answer_all("PUT", Fault(take=4 * MIB))
        api_client.configure(Settings.from_env({"RESOURCE_API_URL": slow.url}))
        api_client.get_api_client().login(EMAIL, PASSWORD)
        storing = pool.submit(store.store, "x", Form("m", [CONTENT] * 4))
        poll(lambda: slow.taken, 10, "the first bytes")
        api_client.forget_login()
        with pytest.raises(NotLoggedIn):
            storing.result(10)
        assert slow.taken < 3 * len(CONTENT)


def test_an_upload_never_publishes_its_small_part_under_a_later_login(
    logged_in: FaultyApi, store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api_client.get_api_client()
    put_object = client.put_object

    def put_then_change_the_login(path: str, body: Any) -> None:
        put_object(path, body)
        client.forget()
        client.login(EMAIL, PASSWORD)

    monkeypatch.setattr(client, "put_object", put_then_change_the_login)
    with pytest.raises(NotLoggedIn):
        store.store("x", Form("m", [CONTENT]))
    assert [Path(request.path).suffix for request in logged_in.requests("PUT")] == [".big"]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(503, unread=True)],
        [Fault(503), Fault(429, headers={"Retry-After": "0"})],
        [Fault(500), Fault(502)],
    ],
)
def test_an_upload_survives_faults_that_pass(
    logged_in: FaultyApi, tmp_path: Path, faults: list[Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.patience.FIRST_WAIT", 0.02)
    monkeypatch.setattr("loader.patience.OUTAGE_WAIT", 0.04)
    store = ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 5), 5)
    seen: list[str] = []
    healthy = logged_in.healthy_response
    left = {"big": list(faults), "small": list(faults)}

    def respond(request: SeenRequest) -> Fault:
        kind = request.path.rpartition(".")[2]
        if request.method == "PUT":
            seen.append(kind)
            if left[kind]:
                return left[kind].pop(0)
        return healthy(request)

    monkeypatch.setattr(logged_in, "healthy_response", respond)
    store.store("x", Form("m", [CONTENT]))
    assert seen == ["big"] * (1 + len(faults)) + ["small"] * (1 + len(faults))
    assert read_whole(store.load(NAME)) == CONTENT


def test_an_upload_that_is_refused_is_not_repeated(logged_in: FaultyApi, store: ResourceStore) -> None:
    logged_in.answer_all("PUT", Fault(403))
    with pytest.raises(ApiError):
        store.store("x", Form("m", [b"content"]))
    assert len(logged_in.requests("PUT")) == 1


def small_of(api: FaultyApi) -> SmallPart:
    return SmallPart.from_bytes(api.objects[f"/resources/{NAME.small}"])


@pytest.mark.parametrize("content", [b"content", CONTENT], ids=["small", "big"])
def test_an_upload_is_signed_by_the_key_of_its_loader(logged_in: FaultyApi, tmp_path: Path, content: bytes) -> None:
    models = tmp_path / "models"
    store = ResourceStore(models, ModelCache(models, 0, 1), 1, trust=ModelTrust(TRUSTED, models), signing_key=ANNA)
    store.store("x", Form("m", [content]))
    small = small_of(logged_in)
    assert [one.key for one in small.signatures] == [ANNA.public]
    assert is_valid(small.signatures[0], small.named(NAME))
    assert read_whole(store.load(NAME)) == content


def test_an_upload_without_a_key_has_no_signature(logged_in: FaultyApi, store: ResourceStore) -> None:
    store.store("x", Form("m", [b"content"]))
    assert small_of(logged_in).signatures == ()


def test_the_serial_of_an_upload_is_the_time_and_its_date_too(logged_in: FaultyApi, store: ResourceStore) -> None:
    before = time.time()
    store.store("x", Form("m", [b"content"]))
    edition = small_of(logged_in).edition
    assert before * 1000 - 1 <= edition.serial <= time.time() * 1000
    assert abs(datetime.fromisoformat(edition.created).timestamp() - before) < 60


@pytest.mark.parametrize("ahead", [0, 1, 10**12])
def test_an_upload_is_newer_than_the_present_edition_whatever_the_clocks_say(
    logged_in: FaultyApi, store: ResourceStore, ahead: int
) -> None:
    present = signed_model(CONTENT, 1)
    serial = int(time.time() * 1000) + 60_000 + ahead
    small = replace(present.small, header=present.small.header.replace(b'"serial":1,', b'"serial":%d,' % serial))
    header = (len(small.header) - 4).to_bytes(4, "big") + small.header[4:]
    logged_in.objects[f"/resources/{NAME.small}"] = replace(small, header=header).to_bytes()
    store.store("x", Form("m", [b"content"]))
    assert small_of(logged_in).edition.serial == serial + 1


BLOCKED = small_object(model_document(0, b"") | {"serial": 2**53 - 1}, bytes(56))


@pytest.mark.parametrize("present", [BLOCKED, b"damaged", b""], ids=["last serial", "damaged", "empty"])
def test_what_cannot_be_followed_is_replaced(logged_in: FaultyApi, store: ResourceStore, present: bytes) -> None:
    """Otherwise one hostile upload would block the name for ever."""
    logged_in.objects[f"/resources/{NAME.small}"] = present
    store.store("x", Form("m", [b"content"]))
    assert abs(small_of(logged_in).edition.serial - time.time() * 1000) < 60_000
    assert read_whole(store.load(NAME)) == b"content"


def test_each_upload_has_a_big_object_of_its_own(logged_in: FaultyApi, store: ResourceStore) -> None:
    for _ in range(2):
        store.store("x", Form("m", [CONTENT]))
    assert len({request.path for request in logged_in.requests("PUT") if request.path.endswith(".big")}) == 2
