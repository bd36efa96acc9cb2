"""Two loaders use one directory, as during a reload: one downloads a part at a time, and no byte is fetched twice."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.http_calls import login
from tests.support.loads import Loaded, OpenLoad, load_hashed
from tests.support.processes import poll
from tests.support.procfs import children
from tests.support.range_sites import HASTE, RangeSite, hasty_device, range_site
from tests.support.stored_resources import MIB, StoredResource, assert_sound, store_resource

SECONDS = 20
MAX_EXCESS = 1.02


def test_the_second_process_waits_for_the_download_of_the_first(tmp_path: Path, medium: StoredResource) -> None:
    (tmp_path / "second").mkdir()
    with (
        range_site(tmp_path / "first") as site,
        hasty_device(tmp_path / "second", site.api.url, HASTE, MODEL_CACHE_DIR=str(site.models)) as other,
        ThreadPoolExecutor() as pool,
    ):
        assert login(other.url).status == 200
        held = medium.publish(site.api)
        held.rate = 30 * MIB
        with OpenLoad(site.url, medium.filename) as opened:
            assert opened.read(MIB) == MIB
            waiting = pool.submit(load_hashed, other.url, medium.filename)
            assert opened.finish().sha256 == medium.sha256
            assert waiting.result(SECONDS).sha256 == medium.sha256
        assert held.sent == medium.big.size
        site.wait_until_idle()
        RangeSite(other.loader, site.models, site.api).wait_until_idle()
        assert_sound(site.models, medium)
        assert len(list(site.models.iterdir())) == 1


def test_the_second_process_resumes_where_the_first_gave_up(tmp_path: Path, medium: StoredResource) -> None:
    (tmp_path / "second").mkdir()
    with (
        range_site(tmp_path / "first") as site,
        hasty_device(tmp_path / "second", site.api.url, HASTE, MODEL_CACHE_DIR=str(site.models)) as other,
        ThreadPoolExecutor() as pool,
    ):
        assert login(other.url).status == 200
        held = medium.publish(site.api)
        held.cuts = [20_000_000]
        held.rate = 30 * MIB
        with OpenLoad(site.url, medium.filename) as opened:
            assert opened.read(MIB) == MIB
            waiting = pool.submit(load_hashed, other.url, medium.filename)
            held.statuses = [503] * 6
            assert opened.finish().cut
        held.rate = None
        assert waiting.result(SECONDS).sha256 == medium.sha256
        assert held.sent == medium.big.size
        RangeSite(other.loader, site.models, site.api).wait_until_idle()
        assert_sound(site.models, medium)


def test_a_reload_during_a_load_disturbs_neither_worker(tmp_path: Path, medium: StoredResource) -> None:
    with range_site(tmp_path / "site") as site, ThreadPoolExecutor() as pool:
        held = medium.publish(site.api)
        held.rate = 20 * MIB
        old = site.loader.worker_pid
        with OpenLoad(site.url, medium.filename) as opened:
            assert opened.read(MIB) == MIB
            rest = pool.submit(opened.finish)
            site.loader.process.send_signal(signal.SIGHUP)
            poll(lambda: set(children(site.loader.master_pid)) - {old}, SECONDS, "a second worker")
            assert load_logged_in(site, medium.filename).sha256 == medium.sha256
            assert rest.result(SECONDS).sha256 == medium.sha256
        assert held.sent <= MAX_EXCESS * medium.big.size
        poll(lambda: children(site.loader.master_pid) not in ([], [old]), SECONDS, "one worker")


def load_logged_in(site: RangeSite, filename: str) -> Loaded:
    """Log in and load until one worker gets both requests: both workers accept requests until the first one stops."""
    tries: list[Loaded] = []

    def loaded() -> bool:
        assert login(site.url).status == 200
        tries.append(load_hashed(site.url, filename))
        return tries[-1].code != "NOT_LOGGED_IN"

    poll(loaded, SECONDS, "the second worker has a login")
    return tries[-1]


def test_two_processes_that_evict_for_each_other_serve_only_right_bytes(tmp_path: Path) -> None:
    """Each process may evict an entry that the other one is reading."""
    (tmp_path / "second").mkdir()
    (tmp_path / "stored").mkdir()
    resources = [store_resource(tmp_path / "stored", name, 3 * MIB) for name in "abc"]
    limit = {"MODEL_CACHE_MAX_BYTES": str(4 * MIB)}
    with range_site(tmp_path / "first", **limit) as site:
        shared = {"MODEL_CACHE_DIR": str(site.models), **limit}
        with hasty_device(tmp_path / "second", site.api.url, HASTE, **shared) as other:
            assert login(other.url).status == 200
            for resource in resources:
                resource.publish(site.api).cut_every = 2 * MIB
            jobs = [(url, resource) for _ in range(8) for resource in resources for url in (site.url, other.url)]
            with ThreadPoolExecutor(6) as pool:
                for (_, resource), done in zip(
                    jobs, pool.map(lambda job: load_hashed(job[0], job[1].filename), jobs), strict=True
                ):
                    assert done.cut or done.sha256 == resource.sha256
            site.wait_until_idle()
            RangeSite(other.loader, site.models, site.api).wait_until_idle()
            assert_sound(site.models, *resources)
