"""`azaion-loader images publish` and `releases` against the resource API: what they print, and their exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader import api_client
from loader.cli.main import main
from loader.cli.output import size_text
from resource_api.accounts import Role
from tests.cli.packing_runs import assert_refused
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import NOBODY_LISTENS
from tests.support.thin_archives import index_of, release

READER = "reader@example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    with ResourceApiServer(tmp_path_factory.mktemp("api")) as started:
        started.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        started.add_user(READER, PASSWORD)
        yield started


@pytest.fixture(autouse=True)
def _no_client(server: ResourceApiServer) -> Iterator[None]:
    """Begin with an API without any object, and end without the client that a command has made in this process."""
    shutil.rmtree(server.data_dir / "resources" / "images", ignore_errors=True)
    yield
    api_client._settings = api_client._api_client = None


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return release(tmp_path / "old.enc", 1)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return release(tmp_path / "new.enc", 2)


def run(api: str, *arguments: object, email: str = EMAIL, password: str = PASSWORD, **env: str) -> Result:
    command = ["images", *map(str, arguments), "--api", api, "--email", email]
    return CliRunner().invoke(main, command, input=password, env=env)


def stored_size(path: Path) -> int:
    return sum(blob.stored_size for blob in index_of(path).head.blobs)


def to_fetch(path: Path, base: Path) -> int:
    there = {blob.stored for blob in index_of(base).head.blobs}
    return sum(blob.stored_size for blob in index_of(path).head.blobs if blob.stored not in there)


def test_a_release_is_published_and_listed(server: ResourceApiServer, old: Path, new: Path) -> None:
    done = run(server.url, "publish", old)
    assert done.exit_code == 0
    count = len(index_of(old).head.blobs)
    assert done.stdout.splitlines()[-1] == f"published: {count} blobs of {count} sent, {size_text(stored_size(old))}"
    assert done.stdout.startswith("release 1, serial 1, made ")
    assert run(server.url, "publish", new, "--version", "latest").exit_code == 0
    listed = run(server.url, "releases", email=READER, IMAGES_PATH=str(old))
    assert listed.exit_code == 0
    created = index_of(old).head.release.created
    whole, rest = size_text(stored_size(new)), size_text(to_fetch(new, old))
    assert listed.stdout.splitlines() == [
        f"1: serial 1, made {created}, {size_text(stored_size(old))}, 0 B to fetch",
        f"2: serial 2, made {created}, {whole}, {rest} to fetch",
        f"latest: is release 2, serial 2, made {created}, {whole}, {rest} to fetch",
    ]


def test_scripts_get_json(server: ResourceApiServer, old: Path, new: Path, tmp_path: Path) -> None:
    run(server.url, "publish", old)
    done = run(server.url, "publish", new, "--json")
    document = json.loads(done.stdout)
    assert document["release"] == {"version": "2", "serial": 2, "created": index_of(new).head.release.created}
    assert document["bytes"] == to_fetch(new, old)
    assert document["blobs"] < len(index_of(new).head.blobs)
    listed = run(server.url, "releases", "--json", IMAGES_PATH=str(tmp_path / "nothing.enc"))
    (first, second) = json.loads(listed.stdout)["releases"]
    assert first == {
        "name": "1",
        "version": "1",
        "serial": 1,
        "created": index_of(old).head.release.created,
        "bytes": stored_size(old),
        "bytes_to_fetch": stored_size(old),
    }
    assert second["bytes_to_fetch"] == second["bytes"] == stored_size(new)


def test_a_damaged_head_does_not_hide_the_others(server: ResourceApiServer, old: Path, new: Path) -> None:
    run(server.url, "publish", old)
    run(server.url, "publish", new)
    (server.data_dir / "resources" / "images" / "1.head").write_bytes(b"damaged")
    listed = run(server.url, "releases")
    assert listed.exit_code == 0
    first, second = listed.stdout.splitlines()
    assert first.startswith("1: The head of release 1 at the resource API is damaged")
    assert second.startswith("2: serial 2")


def test_nothing_is_published(server: ResourceApiServer) -> None:
    assert run(server.url, "releases").stdout == "no release is published\n"
    assert json.loads(run(server.url, "releases", "--json").stdout) == {"releases": []}


def test_refusals_have_a_code(server: ResourceApiServer, old: Path, tmp_path: Path) -> None:
    forbidden = run(server.url, "publish", old, "--json", email=READER)
    assert (forbidden.exit_code, json.loads(forbidden.stdout)["code"]) == (5, "FORBIDDEN")
    assert_refused(run(server.url, "publish", old, password="wrong"), "LOGIN_REJECTED", 5)
    assert_refused(run(NOBODY_LISTENS, "releases"), "API_UNREACHABLE", 6)
    text = tmp_path / "text.enc"
    text.write_text("no archive")
    assert_refused(run(server.url, "publish", text), "ARCHIVE_CORRUPT", 7)
    assert not (server.data_dir / "resources" / "images").exists()


def test_wrong_usage_is_told_before_the_password_is_read(server: ResourceApiServer, old: Path) -> None:
    assert run("ftp://example.org", "publish", old).exit_code == 2
    assert run(server.url, "publish", old, "--version", "newest").exit_code == 2
    assert run(server.url, "publish", old.with_name("missing.enc")).exit_code == 2
