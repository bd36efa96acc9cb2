"""Portals and compressing servers in the middle of a download: what is here stays, and the download goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from loader.api_client.client import ApiClient
from loader.model_cache.cache import ModelCache
from loader.model_cache.part_file import Stream
from loader.resources import Plaintext, whole
from tests.model_cache.memory_upstream import MIB, MemoryPart
from tests.support.breakable_api import BreakableApi, says
from tests.support.faulty_api import Fault
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.portals import PAGE, PORTALS, response

HERE = MIB + 12_345
PATIENCE_SECONDS = 20.0
COMPRESSED = {"compressed": response(b"200 OK", b"Content-Encoding: gzip\r\n", b"\x1f\x8b" + PAGE)}
LIARS = PORTALS | COMPRESSED


@pytest.fixture
def api() -> Iterator[BreakableApi]:
    with BreakableApi() as running:
        yield running


@pytest.mark.parametrize("here", [0, HERE])
@pytest.mark.parametrize("liar", LIARS)
def test_a_portal_costs_no_byte_that_is_here(
    api: BreakableApi, part: MemoryPart, tmp_path: Path, liar: str, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first response is cut after `here` bytes, the second and the third are lies."""
    monkeypatch.setattr("loader.patience.OUTAGE_WAIT", 0.5)
    path = part.name.big(part.big)
    api.answer("GET", f"/resources/{path}", Fault(body=part.data, cut_after=here), Fault(body=part.data))
    client = ApiClient(api.url, ca_bundle=None, timeouts=(10.0, 10.0))
    client.login(EMAIL, PASSWORD)
    fetches: list[int] = []

    def fetch(begin: int, end: int | None) -> Stream:
        fetches.append(begin)
        api.behaviour = says(LIARS[liar]) if len(fetches) in (2, 3) else None
        return client.open_object(path, begin, end)

    cache = ModelCache(tmp_path / "cache", 0, PATIENCE_SECONDS)
    with closing(cache.open(part.big, part.name.path, fetch)) as reader:
        assert b"".join(Plaintext(part.model, reader, whole(part.model), lambda: None, set())) == part.content
    assert fetches == [0, here, here, here]
