"""`azaion-loader cache` against a real loader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from loader.errors import Busy
from tests.cli.cli_runs import invoke
from tests.support.http_calls import call, login, upload
from tests.support.loads import OpenLoad
from tests.support.range_sites import RangeSite, hasty_device
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import HASTE
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> StoredResource:
    """A resource larger than all socket buffers between the API and a client."""
    return store_resource(tmp_path_factory.mktemp("stored"), "medium", 16 * MIB)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, resource: StoredResource) -> Iterator[RangeSite]:
    """A loader with one transfer slot and a cache of 64 MiB, whose upstream has the resource."""
    directory = tmp_path_factory.mktemp("narrow")
    environment = {"MAX_TRANSFERS": "1", "MODEL_CACHE_MAX_BYTES": str(64 * MIB)}
    with RangeUpstream(directory) as api, hasty_device(directory, api.url, HASTE, **environment) as bare:
        assert login(bare.url).status == 200
        resource.publish(api)
        yield RangeSite(bare.loader, bare.models, api)


@pytest.fixture
def site(shared_site: RangeSite) -> RangeSite:
    """Its cache holds one small model, and nothing is in use."""
    shared_site.wait_until_idle()
    assert call(shared_site.url, "POST", "/cache/clear").json()["kept"] == 0
    assert upload(shared_site.url, FOLDER, "x", bytes(MIB)).status == 200
    return shared_site


def run(site: RangeSite, *arguments: str) -> Result:
    return invoke(site.url, "cache", *arguments)


def test_list_prints_each_part_and_the_total(site: RangeSite) -> None:
    (part,) = site.models.glob("*.big")
    done = run(site, "list")
    assert (done.exit_code, done.stderr) == (0, "")
    entry, total = done.stdout.splitlines()
    assert re.fullmatch(rf"{part.stem[:16]}  +983 kB  \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  whole", entry)
    assert total == "1 part, 983 kB of 67 MB"
    listed = run(site, "list", "--json")
    assert json.loads(listed.stdout) == call(site.url, "GET", "/cache").json()


def test_verify_finds_and_removes_a_damaged_part(site: RangeSite) -> None:
    (part,) = site.models.glob("*.big")
    done = run(site, "verify")
    assert (done.exit_code, done.stdout) == (0, "1 part read, 983 kB, 0 damaged\n")
    part.write_bytes(b"x" + part.read_bytes()[1:])
    done = run(site, "verify")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"{part.stem}: damaged, removed", "1 part read, 983 kB, 1 damaged"]
    assert not part.exists()
    done = run(site, "verify", "--json")
    assert json.loads(done.stdout) == {"checked": 0, "bytes": 0, "damaged": []}


def test_clear_removes_the_parts(site: RangeSite) -> None:
    assert run(site, "clear").stdout == "1 part removed, 983 kB; 0 in use\n"
    assert json.loads(run(site, "clear", "--json").stdout) == {"removed": 0, "bytes": 0, "kept": 0}


def test_a_busy_loader_is_reported_with_exit_code_and_hint(
    site: RangeSite, resource: StoredResource, tmp_path: Path
) -> None:
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        listed = run(site, "list")
        assert re.search(rf"{resource.big.digest[:16]}  .*, in use  .*/medium\n", listed.stdout)
        for arguments in (
            ("cache", "verify"),
            ("load", f"{FOLDER}/{resource.filename}", "-o", str(tmp_path / "model")),
            ("upload", str(resource.big_file), FOLDER),
        ):
            done = invoke(site.url, *arguments)
            assert done.exit_code == 9, done.stderr
            assert done.stderr.endswith(f"(BUSY)\nWhat to do: {Busy.hint}\n")
    assert not (tmp_path / "model").exists()


def test_the_status_shows_downloads(site: RangeSite, resource: StoredResource) -> None:
    held = resource.publish(site.api)
    held.rate = 4 * MIB
    with OpenLoad(site.url, resource.filename) as opened:
        assert opened.read(MIB) == MIB
        shown = invoke(site.url, "status").stdout
        assert re.search(rf"^download: {FOLDER}/medium, \d+ [kM]B of 17 MB, \d+ [kM]?B/s$", shown, re.MULTILINE), shown
        held.rate = None
        assert opened.finish().sha256 == resource.sha256


@pytest.mark.parametrize("command", ["list", "verify", "clear"])
def test_an_unreachable_loader_is_reported(command: str) -> None:
    done = invoke("unix:/nonexistent/loader.sock", "cache", command, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["code"] == "LOADER_UNREACHABLE"
