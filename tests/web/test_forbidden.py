"""A loader that is logged in as a reader: loads work, and an upload is refused at once and changes nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from loader.errors import Forbidden
from resource_api.accounts import Role
from tests.support.http_calls import PASSWORD, load, login, upload
from tests.support.sites import Site, bare_site

READER = {"email": "reader@example.org", "password": PASSWORD}
# Far less than API_PATIENCE, which is what a loader that tried again would take.
AT_ONCE_SECONDS = 30


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
def test_a_reader_loads_and_cannot_upload(site: Site, tmp_path: Path, size: int) -> None:
    assert upload(site.url, "roles", "x", b"first").status == 200
    site.api.add_user(READER["email"], READER["password"])
    with bare_site(tmp_path / "device", site.api.url) as device:
        assert login(device.url, READER).status == 200
        before = time.monotonic()
        problem = upload(device.url, "roles", "x", bytes(size)).problem(403, "FORBIDDEN")
        assert time.monotonic() - before < AT_ONCE_SECONDS
        assert (problem["hint"], problem["retryable"]) == (Forbidden.hint, False)
        assert load(device.url, "roles", "x").body == b"first"

        site.api.add_user(READER["email"], READER["password"], Role.PUBLISHER)
        assert upload(device.url, "roles", "x", bytes(size)).status == 200
        assert load(device.url, "roles", "x").body == bytes(size)
