"""Publishing releases at the resource API: what is sent and in which order, what goes on, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from loader import api_client
from loader.api_client import configure, get_api_client
from loader.binary_split import Stage, open_archive
from loader.crypto.archive import archive_start
from loader.errors import (
    ApiError,
    ArchiveCorrupt,
    ArchiveIncomplete,
    Forbidden,
    Interrupted,
    LoaderError,
    ResourceCorrupt,
    ResourceNotFound,
    ValidationFailed,
)
from loader.files import OnBytes
from loader.packing.publish import publish
from loader.packing.publish_parts import send_in_parts
from loader.packing.sign import sign
from loader.published import published_head, published_objects, published_versions
from loader.references import LATEST
from loader.settings import Settings
from resource_api.accounts import Role
from tests.packing.packs import unwatched
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.flips import flip_in_file
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.publishers import ANNA
from tests.support.resource_api_server import ResourceApiServer
from tests.support.thin_archives import holding, index_of, release, thin_of, top
from tests.support.upload_api import UploadApi

pytestmark = pytest.mark.usefixtures("api")

PATIENCE = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    with ResourceApiServer(tmp_path_factory.mktemp("api")) as started:
        yield started


@pytest.fixture
def api(server: ResourceApiServer) -> Iterator[ResourceApiServer]:
    """The resource API without any object, with a login of a publisher in this process."""
    shutil.rmtree(server.data_dir / "resources" / "images", ignore_errors=True)
    server.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    log_in(server.url)
    server.forget_requests()
    yield server
    forget()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return release(tmp_path / "old.enc", 1)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return release(tmp_path / "new.enc", 2)


def log_in(url: str) -> None:
    configure(Settings.from_env({"RESOURCE_API_URL": url}))
    get_api_client().login(EMAIL, PASSWORD)


def forget() -> None:
    api_client._settings = api_client._api_client = None


def published(path: Path, *names: str, patience: float = PATIENCE) -> list[str]:
    """Publish the archive, and return the piece digests of the blobs that were sent."""
    with open_archive(path) as archive:
        done = publish(archive, list(names) or [archive.head.release.version], unwatched, patience)
    return [blob.stored for blob in done.sent]


def refused(path: Path, *names: str) -> LoaderError:
    """Return the error of a publication that changes nothing at the API."""
    before = published_objects()
    with pytest.raises(LoaderError) as raised:
        published(path, *names)
    assert published_objects() == before
    return raised.value


def stored(path: Path) -> list[str]:
    return [blob.stored for blob in index_of(path).head.blobs]


def head_of(path: Path) -> bytes:
    index = index_of(path)
    return archive_start(index.stored, index.seals, ())


def puts(api: ResourceApiServer) -> list[str]:
    return [request.path.removeprefix("/resources/images/") for request in api.requests("PUT")]


def test_the_blobs_come_first_and_the_head_last(api: ResourceApiServer, new: Path) -> None:
    assert published(new) == stored(new)
    assert puts(api) == [f"{digest}.blob" for digest in stored(new)] + ["2.head"]
    client, data, index = get_api_client(), new.read_bytes(), index_of(new)
    for blob in index.head.blobs:
        begin = index.offsets[blob.digest]
        there = client.small_object(f"images/{blob.stored}.blob", blob.stored_size)
        assert there == data[begin : begin + blob.stored_size]
    assert client.small_object("images/2.head") == head_of(new)
    assert published_head("2").stored == index.stored


def test_a_second_call_sends_the_head_alone(api: ResourceApiServer, new: Path) -> None:
    published(new)
    api.forget_requests()
    assert published(new) == []
    assert puts(api) == ["2.head"]


def test_an_update_sends_what_changed_also_from_a_thin_archive(old: Path, new: Path) -> None:
    published(old)
    changed = [digest for digest in stored(new) if digest not in stored(old)]
    thin = new.with_name("thin.enc")
    thin.write_bytes(thin_of(new, old))
    assert 0 < len(changed) < len(stored(new))
    assert published(thin) == changed
    assert published(new) == []
    assert sorted(published_versions(published_objects())) == ["1", "2"]


def test_a_thin_archive_needs_the_rest_at_the_api(api: ResourceApiServer, old: Path, new: Path) -> None:
    thin = new.with_name("thin.enc")
    thin.write_bytes(thin_of(new, old))
    assert isinstance(refused(thin), ArchiveIncomplete)
    assert puts(api) == []


def test_blobs_in_the_directory_of_an_archive_are_sent_as_well(old: Path, new: Path) -> None:
    assert published(holding(new.with_name("held.enc"), new, old)) == stored(new)


def test_the_newest_release_has_a_second_head(old: Path, new: Path) -> None:
    published(old, "1", LATEST)
    assert published_head(LATEST).head.release.version == "1"
    published(new, "2", LATEST)
    assert get_api_client().small_object("images/latest.head") == head_of(new)
    assert isinstance(refused(old, "1", LATEST), ValidationFailed)


@pytest.mark.parametrize("serial", [0, 1])
def test_a_release_that_devices_would_refuse_is_refused(tmp_path: Path, serial: int) -> None:
    image = HandmadeImage("registry.local:5000/app:1", (top(1),))
    other = HandmadeImage("registry.local:5000/app:1", (top(2),))
    published(seal(tmp_path / "there.enc", [image], serial=1))
    failure = refused(seal(tmp_path / "images.enc", [other], serial=serial))
    assert isinstance(failure, ValidationFailed)
    assert "serial 1, made" in str(failure)
    assert published(seal(tmp_path / "images.enc", [other], serial=2)) != []


def test_the_same_release_with_another_signature_replaces_the_head(new: Path) -> None:
    published(new)
    signed = Path(shutil.copy(new, new.with_name("signed.enc")))
    sign(signed, ANNA, unwatched)
    assert published(signed) == []
    assert len(published_head("2").seals.signatures) == 1


def test_a_damaged_head_is_replaced(new: Path) -> None:
    get_api_client().put_object("images/2.head", b"damaged")
    with pytest.raises(ResourceCorrupt, match="release 2"):
        published_head("2")
    published(new)
    assert published_head("2").stored == index_of(new).stored


def test_a_whole_archive_is_no_head(new: Path) -> None:
    small = seal(new, [HandmadeImage("registry.local:5000/app:2", (top(2),))])
    get_api_client().put_object("images/2.head", small.read_bytes())
    with pytest.raises(ResourceCorrupt, match="present"):
        published_head("2")


def test_a_release_that_nobody_published_is_not_found() -> None:
    with pytest.raises(ResourceNotFound):
        published_head("2")


@pytest.mark.parametrize("where", ["first byte", "last byte"])
def test_a_damaged_blob_never_reaches_the_store(new: Path, where: str) -> None:
    index = index_of(new)
    damaged = max(index.head.blobs, key=lambda blob: blob.stored_size)
    begin = index.offsets[damaged.digest]
    flip_in_file(new, begin if where == "first byte" else begin + damaged.stored_size - 1)
    with pytest.raises(ArchiveCorrupt):
        published(new)
    assert f"images/{damaged.stored}.blob" not in published_objects()
    assert published_versions(published_objects()) == []


def test_an_interrupted_publication_goes_on(api: ResourceApiServer, new: Path) -> None:
    sizes = {f"images/{blob.stored}.blob": blob.stored_size for blob in index_of(new).head.blobs}
    for number in count():
        try:
            with open_archive(new) as archive:
                publish(archive, ["2"], interrupted_at(number), PATIENCE)
            break
        except Interrupted:
            assert published_objects().items() <= sizes.items()
    assert number > 1
    api.forget_requests()
    assert published(new) == []
    assert puts(api) == ["2.head"]


def interrupted_at(number: int) -> Stage:
    """Return a stage that is interrupted when the piece with this number was sent."""

    @contextmanager
    def stage(_label: str, _size: int) -> Iterator[OnBytes]:
        calls = count()

        def advance(_size: int) -> None:
            if next(calls) == number:
                raise Interrupted("It was interrupted.")

        yield advance

    return stage


def test_large_blobs_go_in_parts(api: ResourceApiServer, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.packing.publish.WHOLE_MAX_SIZE", 0)
    assert published(new) == stored(new)
    assert len(api.requests("POST", "/uploads")) == len(stored(new))
    assert puts(api)[-1] == "2.head"
    assert not [path for path in puts(api)[:-1] if "/parts/" not in path]
    client, data, index = get_api_client(), new.read_bytes(), index_of(new)
    for blob in index.head.blobs:
        begin = index.offsets[blob.digest]
        there = client.small_object(f"images/{blob.stored}.blob", blob.stored_size)
        assert there == data[begin : begin + blob.stored_size]


def test_a_damaged_blob_is_not_completed_and_leaves_no_upload(
    api: ResourceApiServer, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.packing.publish.WHOLE_MAX_SIZE", 0)
    index = index_of(new)
    flip_in_file(new, index.offsets[index.head.blobs[0].digest] + 10)
    uploads = api.data_dir / "uploads"
    before = set(uploads.iterdir())  # those that earlier tests have completed
    assert isinstance(refused(new), ArchiveCorrupt)
    assert set(uploads.iterdir()) == before


def test_an_api_that_takes_no_parts_gets_large_blobs_whole(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.packing.publish.WHOLE_MAX_SIZE", 0)
    with FaultyApi() as api:
        log_in(api.url)
        api.answer("GET", "/resources", Fault(body=b'{"resources": []}'))
        assert published(new) == stored(new)
        assert set(api.objects) == {f"/resources/images/{each}.blob" for each in stored(new)} | {
            "/resources/images/2.head"
        }
        forget()


def test_parts_have_the_largest_size_and_their_addresses_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.patience.FIRST_WAIT", 0.02)
    content = bytes(range(256)) * 5_000
    with UploadApi() as api:
        log_in(api.url)
        assert send_in_parts("images/x.blob", Slow(content, api), PATIENCE)
        sizes = [seen.body_bytes for seen in api.parts_sent() if seen.status == 200]
        assert sizes == [api.largest, api.largest, len(content) - 2 * api.largest]
        assert api.objects["/resources/images/x.blob"] == content
        forget()


class Slow:
    """A body in pieces of 100,000 bytes, which lets the addresses expire that were given before."""

    def __init__(self, content: bytes, api: UploadApi) -> None:
        self._content, self._api = content, api

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        for begin in range(0, len(self), 100_000):
            yield self._content[begin : begin + 100_000]
            self._api.generation += 1


def test_an_api_that_fails_for_a_while_is_asked_again(new: Path) -> None:
    with FaultyApi() as api:
        log_in(api.url)
        api.answer("GET", "/resources", Fault(body=b'{"resources": []}'))
        first = f"/resources/images/{stored(new)[0]}.blob"
        healthy = Fault(201)
        api.answer("PUT", first, Fault(503), Fault(announced=10, cut_after=0), healthy)
        assert published(new) == stored(new)
        assert api.objects["/resources/images/2.head"] == head_of(new)
        forget()


def test_patience_ends(new: Path) -> None:
    with FaultyApi() as api:
        log_in(api.url)
        api.answer("GET", "/resources", Fault(body=b'{"resources": []}'))
        api.answer_all("PUT", Fault(503))
        with pytest.raises(ApiError):
            published(new, patience=0.5)
        forget()


def test_a_reader_may_not_publish(api: ResourceApiServer, new: Path) -> None:
    api.add_user(EMAIL, PASSWORD, Role.READER)
    log_in(api.url)
    assert isinstance(refused(new), Forbidden)
