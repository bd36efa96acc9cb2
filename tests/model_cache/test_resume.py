"""A download resumes where it stopped: after cuts, after `kill -9`, after an expired token, and after all of them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.model_cache.soundness import assert_sound, is_beginning
from tests.support.http_calls import login
from tests.support.http_probe import http_status
from tests.support.loads import OpenLoad, load_hashed
from tests.support.processes import poll
from tests.support.procfs import children
from tests.support.range_sites import RangeSite, range_site
from tests.support.stored_resources import MIB, StoredResource

MAX_EXCESS = 1.02
RESTART_SECONDS = 20


def partial(site: RangeSite, resource: StoredResource) -> Path:
    return site.models / f"{resource.big.digest}.partial"


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_worker(site: RangeSite) -> None:
    """Kill the worker with SIGKILL, and wait until gunicorn has started another one that responds."""
    killed = site.loader.worker_pid
    os.kill(killed, signal.SIGKILL)
    master = site.loader.master_pid
    poll(lambda: children(master) not in ([], [killed]), RESTART_SECONDS, "another worker")
    poll(lambda: http_status(site.url, "/health") == 200, RESTART_SECONDS, "the other worker responds")


def test_a_download_resumes_after_cuts_a_kill_and_an_expired_token(tmp_path: Path, large: StoredResource) -> None:
    with range_site(tmp_path / "site") as site:
        held = large.publish(site.api)
        held.cut_every = 10 * MIB
        held.rate = 100 * MIB  # The loader keeps up at this rate, so few bytes are lost when it is killed.
        with OpenLoad(site.url, large.filename) as opened:
            assert opened.response.status == 200
            reader = threading.Thread(target=opened.finish)
            reader.start()
            poll(lambda: size_of(partial(site, large)) > 0.3 * large.big.size, 30, "30 % have arrived")
            site.api.expire_tokens()
            poll(lambda: size_of(partial(site, large)) > 0.6 * large.big.size, 30, "60 % have arrived")
            kill_worker(site)
            reader.join()
            assert 0 < opened.arrived < large.size
        assert site.api.logins == 2
        assert is_beginning(partial(site, large), large.big_file)
        assert size_of(partial(site, large)) > 0.6 * large.big.size

        assert load_hashed(site.url, large.filename).code == "NOT_LOGGED_IN"
        assert login(site.url).status == 200
        done = load_hashed(site.url, large.filename)
        assert (done.arrived, done.sha256) == (large.size, large.sha256)
        assert held.sent <= MAX_EXCESS * large.big.size
        site.wait_until_idle()
        assert_sound(site.models, large)
        assert not partial(site, large).exists()


def test_replicas_that_disagree_about_etags_cost_nothing(tmp_path: Path, medium: StoredResource) -> None:
    with range_site(tmp_path / "site") as site:
        held = medium.publish(site.api)
        held.etag = '"of-one-replica"'
        held.cut_every = 20 * MIB
        with OpenLoad(site.url, medium.filename):
            poll(lambda: size_of(partial(site, medium)) > 2 * MIB, 10, "the download has started")
            held.etag = 'W/"of-another"'
        assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
        assert all("if-range" not in request.headers for request in site.api.requests("GET", medium.big_path))
        assert held.sent <= MAX_EXCESS * medium.big.size
