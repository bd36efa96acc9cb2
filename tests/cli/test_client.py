"""The HTTP client of the commands: with a loader, with another server, and without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.cli.client import LoaderClient
from loader.errors import ArchiveNotFound, LoaderProblem, LoaderUnreachable
from tests.conftest import StartLoader
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.processes import free_port
from tests.support.sites import NOBODY_LISTENS

CREDENTIALS = {"email": "a", "password": "b"}


def test_it_reaches_a_loader_over_tcp_and_over_a_unix_socket(start_loader: StartLoader, tmp_path: Path) -> None:
    for bind in (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/loader.sock"):
        running = start_loader(LOADER_BIND=bind)
        client = LoaderClient(running.url)
        assert client.get("/health") == {"status": "healthy"}
        with pytest.raises(LoaderProblem, match="There is no archive") as raised:
            client.post("/unlock", CREDENTIALS)
        assert (raised.value.code, raised.value.hint) == ("ARCHIVE_NOT_FOUND", ArchiveNotFound.hint)
        running.stop()


@pytest.mark.parametrize("url", [NOBODY_LISTENS, "unix:/nonexistent/loader.sock"])
def test_a_refused_connection_raises_loader_unreachable(url: str) -> None:
    with pytest.raises(LoaderUnreachable, match=f"No loader responds at {url}: (Connection refused|No such file)"):
        LoaderClient(url).get("/health")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b"null", b"\xff", b"[" * 100_000], ids=len)
@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_response_that_no_loader_sends_raises_loader_unreachable(status: int, body: bytes) -> None:
    with FaultyApi() as other:
        other.answer("GET", "/health", Fault(status, body=body))
        with pytest.raises(LoaderUnreachable):
            LoaderClient(other.url).get("/health")


def test_an_error_without_code_and_detail_raises_loader_problem() -> None:
    with FaultyApi() as other:
        other.answer("GET", "/health", Fault(404, body=b"{}"))
        with pytest.raises(LoaderProblem, match="The loader refused") as raised:
            LoaderClient(other.url).get("/health")
        assert raised.value.code == "INTERNAL"
