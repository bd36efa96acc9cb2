"""The API and a loader at a stand-in for the strictest store: nothing that they send is refused there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from resource_api.accounts import Role
from resource_api.storage.interface import UploadRefusedError
from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_signature import Signer
from resource_api.storage.s3_uploads import S3Uploads
from resource_api.storage.upload_rules import PART_BYTES
from tests.resource_api.storage.conftest import send_to
from tests.support.http_calls import EMAIL, PASSWORD, load, login, upload
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import Site, bare_site
from tests.support.strict_store import KEYS, REGION, StrictStore

CONTENT = os.urandom(20 << 20)
OBJECTS = 2_345


@pytest.fixture(scope="module")
def store() -> Iterator[StrictStore]:
    """Yield a store."""
    with StrictStore() as running:
        yield running


@pytest.fixture
def bucket(store: StrictStore) -> Bucket:
    """Return the big bucket."""
    store.refusals.clear()
    return Bucket(StoreClient(Signer(store.url, REGION, KEYS["big"]), None), "big")


@pytest.fixture(scope="module")
def site(store: StrictStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a loader that is logged in at an API with this store."""
    directory = tmp_path_factory.mktemp("site")
    settings = {"RESOURCE_API_STORE": store.url}
    for name, prefix in (("big", "RESOURCE_API_STORE"), ("small", "RESOURCE_API_SMALL")):
        keys = directory / name
        keys.touch(mode=0o600)
        keys.write_text("\n".join(KEYS[name]))
        settings |= {f"{prefix}_BUCKET": name, f"{prefix}_KEYS": str(keys)}
    with ExitStack() as running:
        (directory / "api").mkdir()
        api = running.enter_context(ResourceApiServer(directory / "api", store=settings))
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        bare = running.enter_context(bare_site(directory, api.url))
        assert login(bare.url).status == 200
        yield Site(bare.loader, bare.models, api)


def test_a_model_goes_up_and_comes_back_without_a_refusal(site: Site, store: StrictStore) -> None:
    store.refusals.clear()
    assert upload(site.url, "m", "x", CONTENT).status == 200
    site.empty_cache()
    assert load(site.url, "m", "x").body == CONTENT
    # The API asks whether the small part is there before it stores it, and the loader which edition there is.
    assert {(status, path) for status, _, path in store.refusals} <= {
        (404, "HEAD /small/m/x.small"),
        (404, "GET /small/m/x.small"),
    }
    assert list(store.objects["small"]) == ["m/x.small"]
    (big,) = store.objects["big"]
    assert big.startswith("m/x.")


def test_pages_of_a_thousand_are_listed_to_the_end(bucket: Bucket, store: StrictStore) -> None:
    names = [f"many/{number}.big" for number in range(OBJECTS)]
    store.objects["big"].update(dict.fromkeys(names, b"x"))
    assert [each.name for each in bucket.find("many/")] == sorted(names)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Range": "bytes=2-", "If-Range": '"another"'}, 206),
        ("GET", {"Authorization": "Bearer x"}, 400),
        ("HEAD", {}, 403),
        ("PUT", {"Content-Length": "0"}, 403),
    ],
)
def test_a_presigned_url_is_for_one_kind_of_request(
    bucket: Bucket, store: StrictStore, method: str, headers: dict[str, str], status: int
) -> None:
    store.objects["big"]["a.big"] = b"content"
    url = urlsplit(bucket.url("GET", "a.big", 60))
    assert send_to(url.netloc, method, f"{url.path}?{url.query}", headers).status == status


def test_a_url_that_has_expired_is_refused(bucket: Bucket, store: StrictStore) -> None:
    store.objects["big"]["a.big"] = b"content"
    url = urlsplit(bucket.url("GET", "a.big", 0))
    assert send_to(url.netloc, "GET", f"{url.path}?{url.query}", {}).status == 403


def test_an_empty_etag_at_the_end_of_an_upload_is_no_failure(bucket: Bucket, store: StrictStore) -> None:
    uploads = S3Uploads(bucket, b"key", 60)
    made = uploads.create("whole.big", PART_BYTES + 1, EMAIL)
    parts = {1: b"x" * PART_BYTES, 2: b"y"}
    etags = {number: uploads.put_part(made, number, len(content), None, [content]) for number, content in parts.items()}
    with pytest.raises(UploadRefusedError):
        uploads.complete(made, {**etags, 2: "0" * 32})
    for _ in range(2):
        uploads.complete(made, etags)
    assert len(store.objects["big"]["whole.big"]) == made.size


def test_a_part_in_between_that_is_too_small_is_refused(bucket: Bucket) -> None:
    upload = bucket.create_upload("tiny.big")
    etags = {number: bucket.put_part("tiny.big", upload, number, 1, [b"x"], None) for number in (1, 2)}
    with pytest.raises(UploadRefusedError, match="EntityTooSmall"):
        bucket.complete("tiny.big", upload, etags)
