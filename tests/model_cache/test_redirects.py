"""The API redirects requests for big parts to a second host, which must never see the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_cache.soundness import assert_sound
from tests.support import http_calls
from tests.support.loads import load_hashed
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import SIGNATURE, RangeUpstream
from tests.support.stored_resources import FOLDER, MIB, StoredResource, content


@pytest.fixture
def cdn(tmp_path: Path) -> Iterator[RangeUpstream]:
    """Start a second host with another name and another port, which requires no token."""
    with RangeUpstream(tmp_path, host="localhost", guarded=False) as running:
        yield running


@pytest.mark.parametrize("status", [302, 303, 307])
def test_ranges_are_fetched_from_the_other_host(
    site: RangeSite, cdn: RangeUpstream, medium: StoredResource, status: int
) -> None:
    medium.publish(site.api)
    held = medium.publish(cdn)
    held.cuts = [20 * MIB]
    held.statuses = [403]  # A presigned URL has expired, so the loader must ask the API for a new one.
    held.damage_once = {30 * MIB}
    site.api.redirect = (status, cdn.url)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)
    asked, fetched = site.api.requests("GET", medium.big_path), cdn.requests("GET", medium.big_path)
    assert len(asked) == len(fetched) == 4
    assert all(request.headers["authorization"].startswith("Bearer token-") for request in asked)
    assert all("authorization" not in request.headers and "token" not in str(request) for request in fetched)
    assert [request.query for request in fetched] == [f"signature={SIGNATURE}"] * 4
    assert [request.status for request in fetched] == [403, 200, 206, 206]
    assert any(request.headers.get("range") == f"bytes={20 * MIB}-" for request in fetched)
    assert SIGNATURE not in site.loader.process.stderr()
    assert held.sent <= 1.02 * medium.big.size


def test_upload_goes_to_the_other_host(site: RangeSite, cdn: RangeUpstream) -> None:
    site.api.redirect = (307, cdn.url)
    data = b"".join(content("new", 3 * MIB))
    assert http_calls.upload(site.url, FOLDER, "new", data).status == 200
    (path,) = site.models.glob("*.big")
    (big_path,) = {put.path for put in cdn.requests("PUT") if put.path.endswith(".big")}
    big_path = big_path.removeprefix("/resources/")
    (put,) = cdn.requests("PUT", big_path)
    assert "authorization" not in put.headers
    assert put.headers["content-length"] == str(path.stat().st_size)
    assert cdn.objects[f"/resources/{big_path}"].file.read_bytes() == path.read_bytes()
    assert site.api.requests("PUT", big_path)[0].headers["authorization"].startswith("Bearer token-")
    path.unlink()
    assert http_calls.load(site.url, FOLDER, "new").body == data
