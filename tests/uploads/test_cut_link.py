"""A link that is cut again and again costs little more than the parts that were on their way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loader import api_client
from loader.crypto.model_parts import ResourceName
from loader.model_cache.cache import ModelCache
from loader.resources import ResourceStore
from loader.settings import Settings
from resource_api.accounts import Role
from tests.support.cut_link import CutLink
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.resource_api_server import ResourceApiServer
from tests.support.stores import Form, read_whole
from tests.support.upload_api import KIB, UploadApi

MIB = 1 << 20
# A sixteenth of what the resource API and its links have: a cut every 20 MiB, and parts of 256 KiB to 8 MiB.
CUT_EVERY = 20 * MIB // 16
SIZE = 8 * MIB


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[CutLink]:
    """Return a link over which this process is logged in."""
    monkeypatch.setattr("loader.uploads.model.WHOLE_MAX_SIZE", 0)
    with UploadApi() as api, CutLink(api.port, CUT_EVERY) as running, logged_in(running.url, monkeypatch):
        api.smallest, api.largest = 16 * KIB, 512 * KIB
        yield running


@contextmanager
def logged_in(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log this process in at the API behind `url`."""
    monkeypatch.setattr("loader.patience.FIRST_WAIT", 0.02)
    monkeypatch.setattr("loader.patience.OUTAGE_WAIT", 0.04)
    before = (api_client._settings, api_client._api_client)
    api_client.configure(Settings.from_env({"RESOURCE_API_URL": url}))
    api_client.get_api_client().login(EMAIL, PASSWORD)
    yield
    api_client._settings, api_client._api_client = before


def test_a_cut_every_20_mib_costs_at_most_5_percent(link: CutLink, tmp_path: Path) -> None:
    content = os.urandom(SIZE)
    store = ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 5), 5)
    store.store("x", Form("m", [content]))
    assert link.cuts >= SIZE // CUT_EVERY
    assert link.sent <= 1.05 * SIZE, f"{link.sent / SIZE:.3f}"
    assert read_whole(store.load(ResourceName("m", "x"))) == content


@pytest.mark.long
def test_the_same_with_the_reference_api_and_256_mib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api").mkdir()
    piece, count = os.urandom(MIB), 256
    with ResourceApiServer(tmp_path / "api") as api:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        port = int(api.url.rpartition(":")[2])
        with CutLink(port, 20 * MIB) as link, logged_in(link.url, monkeypatch):
            store = ResourceStore(tmp_path / "models", ModelCache(tmp_path / "models", 0, 30), 30)
            store.store("x", Form("m", [piece] * count))
            assert link.cuts >= count // 20
            assert link.sent <= 1.05 * count * MIB, f"{link.sent / (count * MIB):.3f}"
            stored = next((api.data_dir / "resources" / "m").glob("x.*.big"))
            assert stored.read_bytes() == next((tmp_path / "models").glob("*.big")).read_bytes()
