"""`azaion-loader upload` over a link that is cut, in a second run, and with a loader that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import Result

from loader.cli.client import LoaderClient
from loader.cli.sending import FileUpload
from resource_api.accounts import Role
from tests.cli.cli_runs import invoke
from tests.support.cut_link import CutLink
from tests.support.http_calls import EMAIL, PASSWORD, load, login
from tests.support.processes import free_port, poll
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import BareSite, Site, bare_site, real_site

MIB = 1 << 20
SIZE = 24 * MIB
SECONDS = 30
NEVER = 1 << 60


class Killed(BaseException):
    """Stands for the end of the process of the command."""


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.patience.FIRST_WAIT", 0.05)
    monkeypatch.setattr("loader.patience.OUTAGE_WAIT", 0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with real_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(os.urandom(SIZE))
    return path


def port_of(site: BareSite) -> int:
    return urlsplit(site.url).port or 0


def run(url: str, model: Path, *arguments: str) -> Result:
    return invoke(url, "upload", str(model), "day", *arguments)


def run_and_kill(site: Site, model: Path, after: int) -> None:
    """Run the command, and end it in the middle of a piece."""
    sent = 0

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        if sent >= after:
            raise Killed

    before = len(site.audit_lines("upload"))
    with pytest.raises(Killed):
        FileUpload(LoaderClient(site.url), model, "day", count, lambda _event: None).send()
    site.next_audit_line("upload", before)


def test_an_upload_goes_on_after_cuts(site: Site, model: Path) -> None:
    with CutLink(port_of(site), 5 * MIB) as link:
        done = run(link.url, model)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("the upload goes on after") == link.cuts >= SIZE // (5 * MIB)
    # Each cut costs no more than what was on its way.
    assert link.sent < SIZE + link.cuts * 2 * MIB
    assert load(site.url, "day", "model").body == model.read_bytes()
    assert len(site.api.requests("POST", "/uploads")) == 1


def test_json_has_one_document_after_cuts(site: Site, model: Path) -> None:
    with CutLink(port_of(site), 15 * MIB) as link:
        done = run(link.url, model, "--json")
    assert (json.loads(done.stdout)["bytes"], done.stderr) == (SIZE, "")


def test_a_second_run_goes_on(site: Site, model: Path) -> None:
    run_and_kill(site, model, 20 * MIB)
    with CutLink(port_of(site), NEVER) as link:
        done = run(link.url, model)
    assert done.exit_code == 0, done.stderr
    assert "the upload goes on after" in done.stderr
    assert link.sent < 8 * MIB
    assert load(site.url, "day", "model").body == model.read_bytes()
    # A third one has nothing to go on with: it is a new upload.
    with CutLink(port_of(site), NEVER) as link:
        assert run(link.url, model).exit_code == 0
    assert link.sent > SIZE


@pytest.mark.parametrize("content", [os.urandom(SIZE), os.urandom(MIB)], ids=["same size", "shorter"])
def test_a_file_with_another_beginning_starts_again(site: Site, model: Path, content: bytes) -> None:
    run_and_kill(site, model, 20 * MIB)
    model.write_bytes(content)
    done = run(site.url, model)
    assert done.exit_code == 0, done.stderr
    assert "the upload starts again: The upload of day/model began with other bytes" in done.stderr
    assert load(site.url, "day", "model").body == content


def test_a_file_that_has_grown_goes_on(site: Site, model: Path) -> None:
    run_and_kill(site, model, 20 * MIB)
    with model.open("ab") as file:
        file.write(b"more")
    assert run(site.url, model).exit_code == 0
    assert load(site.url, "day", "model").body == model.read_bytes()


def test_an_upload_that_gets_nowhere_ends(site: Site, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.cli.sending.PATIENCE_SECONDS", 1.0)
    with CutLink(port_of(site), 5 * MIB) as link, ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, link.url, model)
        poll(lambda: link.cuts, SECONDS, "the link is cut")
        monkeypatch.setattr(link, "count", lambda _size: False)  # from now on nothing passes
        done = running.result(SECONDS)
    assert done.exit_code != 0
    assert "(LOADER_UNREACHABLE)" in done.stderr


@pytest.mark.long
def test_a_loader_that_was_killed_gets_the_file_from_its_start(tmp_path: Path, model: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "again").mkdir()
    bind = f"127.0.0.1:{free_port()}"
    with ResourceApiServer(tmp_path / "api") as api, ThreadPoolExecutor(1) as pool:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        with bare_site(tmp_path, api.url, LOADER_BIND=bind) as first, CutLink(port_of(first), 15 * MIB) as link:
            assert login(first.url).status == 200
            process, pids = first.loader.process, (first.loader.master_pid, first.loader.worker_pid)

            def kill_at_a_cut(size: int) -> bool:
                if not count(size):
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                    return False
                return True

            count, link.count = link.count, kill_at_a_cut  # type: ignore[method-assign]
            running = pool.submit(run, link.url, model)
            process.wait(SECONDS)
            with bare_site(tmp_path / "again", api.url, LOADER_BIND=bind) as second:
                assert login(second.url).status == 200
                done = running.result(SECONDS)
                assert done.exit_code == 0, done.stderr
                assert "the upload starts again" in done.stderr
                assert load(second.url, "day", "model").body == model.read_bytes()
