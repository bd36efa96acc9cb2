"""`azaion-loader images fetch` against a running loader."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fetch.published import MIB, VERSION, Fetcher, hold, objects
from tests.support.http_calls import call
from tests.support.loader_server import run_loader
from tests.support.range_sites import RangeSite


def test_a_fetch_that_is_waited_for(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    ended = run_loader(tmp_path, "images", "fetch", "--wait", LOADER_URL=flaky.url)
    assert (ended.returncode, ended.stdout) == (0, f"release {VERSION}: fetched, 8 MB; unlock to use it\n")
    assert "step 3 of 3: installing\n" in ended.stderr
    fetcher.require(first)


def test_a_fetch_that_is_started_and_joined(flaky: RangeSite, tmp_path: Path, first: Path) -> None:
    for held in hold(flaky.api, tmp_path / "published", objects(first)):
        held.rate = MIB
    started = run_loader(tmp_path, "images", "fetch", VERSION, "--json", LOADER_URL=flaky.url)
    assert json.loads(started.stdout) == {"state": "checking", "version": VERSION}
    joined = run_loader(tmp_path, "images", "fetch", "--wait", "--json", LOADER_URL=flaky.url)
    assert (joined.returncode, json.loads(joined.stdout)["state"]) == (0, "fetched")
    assert [line["outcome"] for line in flaky.audit_lines("fetch")] == ["joined", "ok"]


def test_a_fetch_that_is_cancelled(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    for held in hold(flaky.api, tmp_path / "published", objects(first)):
        held.stalls = [MIB // 2]
    run_loader(tmp_path, "images", "fetch", LOADER_URL=flaky.url)
    cancelled = run_loader(tmp_path, "images", "fetch", "--cancel", LOADER_URL=flaky.url)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"the fetch of {VERSION} stops\n")
    assert fetcher.wait()["code"] == "INTERRUPTED"
    again = run_loader(tmp_path, "images", "fetch", "--cancel", LOADER_URL=flaky.url)
    assert (again.returncode, again.stdout) == (0, "no fetch runs\n")


def test_errors_have_their_codes(flaky: RangeSite, tmp_path: Path) -> None:
    failed = run_loader(tmp_path, "images", "fetch", "none", "--wait", LOADER_URL=flaky.url)
    assert failed.returncode == 4
    assert "(RESOURCE_NOT_FOUND)" in failed.stderr
    assert "What to do: Ask the publisher" in failed.stderr
    assert call(flaky.url, "POST", "/lock").status == 200
    refused = run_loader(tmp_path, "images", "fetch", LOADER_URL=flaky.url)
    assert (refused.returncode, "(NOT_LOGGED_IN)" in refused.stderr) == (5, True)
    wrong = run_loader(tmp_path, "images", "fetch", "1.4", "--cancel", LOADER_URL=flaky.url)
    assert wrong.returncode == 2
