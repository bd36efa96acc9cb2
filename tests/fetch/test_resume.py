"""A fetch resumes where it stopped: after cuts, kills, restarts of the API, a cancel, a lock and SIGTERM."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from loader.install import install
from tests.fetch.published import MIB, VERSION, Fetcher, hold, objects
from tests.packing.packs import contents, unwatched
from tests.support import range_upstream
from tests.support.http_calls import call, login
from tests.support.http_probe import http_status
from tests.support.processes import poll
from tests.support.procfs import children
from tests.support.range_sites import RangeSite
from tests.support.sites import BareSite

# What may be on its way when the loader is killed, on all of its connections together.
LOST_BY_A_KILL = 128 * 1024
RESTART_SECONDS = 20
# Slow enough that a test can act in the middle of a blob, and that little is lost when the loader is killed.
RATE = 4 * MIB


def size_of(published: dict[str, bytes]) -> int:
    return sum(len(data) for path, data in published.items() if path.endswith(".blob"))


def here(fetcher: Fetcher) -> int:
    """Return how many bytes of blobs lie in the directory."""
    if not fetcher.blobs.exists():
        return 0
    total = 0
    for path in fetcher.blobs.iterdir():
        if "fetched.head" not in path.name:
            with suppress(FileNotFoundError):  # the loader has just renamed it
                total += path.stat().st_size
    return total


def wait_for(fetcher: Fetcher, size: float) -> None:
    poll(lambda: here(fetcher) > size, 30, f"{size} bytes have come")


def kill_worker(site: BareSite) -> None:
    """Kill the worker, wait for the next one, and log in there."""
    killed = site.loader.worker_pid
    os.kill(killed, signal.SIGKILL)
    master = site.loader.master_pid
    poll(lambda: children(master) not in ([], [killed]), RESTART_SECONDS, "another worker")
    poll(lambda: http_status(site.url, "/health") == 200, RESTART_SECONDS, "the other worker responds")
    assert login(site.url).status == 200


def test_cuts_kills_and_a_restart_of_the_api_cost_hardly_a_byte(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a server sends to a client that was just killed counts as well, so that it must be little.
    monkeypatch.setattr(range_upstream, "PIECE_SIZE", 4096)
    published = objects(first)
    held = hold(flaky.api, tmp_path / "published", published)
    for each in held:
        each.cut_every, each.rate = 300_000, MIB
    size = size_of(published)
    for part in (0.2, 0.4, 0.6):
        assert fetcher.start().status == 200
        wait_for(fetcher, part * size)
        kill_worker(flaky)
    assert fetcher.start().status == 200
    wait_for(fetcher, 0.8 * size)
    # What a restarted API does to its clients: they are not known any more, and it is away for a while.
    flaky.api.expire_tokens()
    for each in held:
        each.statuses += [503]
    assert fetcher.wait()["state"] == "fetched"
    fetcher.require(first)
    assert sum(each.sent for each in held) <= size + 3 * LOST_BY_A_KILL


def test_a_cancel_keeps_what_has_come(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    published = objects(first)
    held = hold(flaky.api, tmp_path / "published", published)
    for each in held:
        each.rate = RATE
    fetcher.start()
    wait_for(fetcher, 2 * MIB)
    assert fetcher.cancel().status == 200
    report = fetcher.wait()
    assert (report["state"], report["code"], report["retryable"]) == ("error", "INTERRUPTED", True)
    assert report["error"] == "The fetch was interrupted because it was cancelled."
    assert "goes on" in report["hint"]
    assert not fetcher.place.exists()
    assert here(fetcher) > 2 * MIB
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(first)
    # Each of the four connections may have had some bytes on the way.
    assert sum(each.sent for each in held) <= size_of(published) + 4 * MIB


def test_a_cancel_of_nothing(fetcher: Fetcher) -> None:
    assert fetcher.cancel().json() == {"state": "idle", "version": None}


def test_a_lock_ends_a_fetch(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    for each in hold(flaky.api, tmp_path / "published", objects(first)):
        each.rate = RATE
    fetcher.start()
    wait_for(fetcher, MIB)
    assert call(flaky.url, "POST", "/lock").status == 200
    report = fetcher.wait()
    assert (report["code"], report["error"]) == (
        "INTERRUPTED",
        "The fetch was interrupted because the loader was locked.",
    )
    assert login(flaky.url).status == 200
    assert fetcher.fetch()["state"] == "fetched"


def test_a_stalled_api_does_not_delay_a_cancel(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    for each in hold(flaky.api, tmp_path / "published", objects(first)):
        each.stalls = [65536]
    fetcher.start()
    fetcher.wait({"downloading"})
    fetcher.cancel()
    assert fetcher.wait()["code"] == "INTERRUPTED"
    assert fetcher.fetch()["state"] == "fetched"
    fetcher.require(first)


def test_sigterm_ends_a_fetch(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    for each in hold(flaky.api, tmp_path / "published", objects(first)):
        each.rate = RATE
    fetcher.start()
    wait_for(fetcher, MIB)
    assert flaky.loader.stop() == 0
    (line,) = flaky.audit_lines("fetch")
    assert (line["outcome"], line["code"]) == ("failed", "INTERRUPTED")
    assert not fetcher.place.exists()


def test_two_fetches(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    held = hold(flaky.api, tmp_path / "published", objects(first))
    for each in held:
        each.rate = RATE
    fetcher.start()
    fetcher.wait({"downloading"})
    assert fetcher.start().json() == {"state": "downloading", "version": VERSION}
    problem = fetcher.start("other").problem(503, "BUSY")
    assert VERSION in problem["detail"]
    assert fetcher.wait()["state"] == "fetched"
    assert [line["outcome"] for line in flaky.audit_lines("fetch")] == ["joined", "failed", "ok"]
    assert sum(each.sent for each in held) == size_of(objects(first))


def test_a_release_that_changes_in_the_middle(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, second: Path
) -> None:
    old, new = objects(first), objects(second)
    for each in hold(flaky.api, tmp_path / "published", old):
        each.rate = RATE
    fetcher.start()
    wait_for(fetcher, MIB)
    # The publisher replaces the release, and sweeps what the new one does not need.
    gone = [path for path in old if path not in new]
    hold(flaky.api, tmp_path / "published", {path: new[path] for path in new if new[path] != old.get(path)})
    for path in gone:
        flaky.api.objects[f"/resources/{path}"].statuses = [404] * 10
        flaky.api.objects[f"/resources/{path}"].cuts = [here(fetcher)]
    assert fetcher.wait()["state"] == "fetched"
    assert contents(fetcher.place) in (contents(first), contents(second))


def test_an_installation_in_the_middle_keeps_what_has_come(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, second: Path
) -> None:
    held = hold(flaky.api, tmp_path / "published", objects(second))
    for each in held:
        each.rate = RATE
    fetcher.start()
    wait_for(fetcher, 2 * MIB)
    install(first, fetcher.place, VERSION, unwatched)
    assert contents(fetcher.place) == contents(first)
    assert fetcher.wait()["state"] == "fetched"
    fetcher.require(second)
    assert sum(each.sent for each in held) == size_of(objects(second))


@pytest.mark.parametrize("kind", ["nothing", "full"])
def test_bytes_of_an_update(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, second: Path, kind: str
) -> None:
    """At most the changed blobs and 64 KiB come, head included."""
    if kind == "full":
        install(first, fetcher.place, VERSION, unwatched)
    else:
        hold(flaky.api, tmp_path / "old", objects(first))
        assert fetcher.fetch()["state"] == "fetched"
        flaky.api.reset()
        assert login(flaky.url).status == 200
    old, new = objects(first), objects(second)
    hold(flaky.api, tmp_path / "new", new)
    assert fetcher.fetch()["state"] == "fetched"
    changed = sum(len(data) for path, data in new.items() if path.endswith(".blob") and path not in old)
    assert sum(held.sent for held in flaky.api.objects.values()) <= changed + 64 * 1024
    fetcher.require(second)
