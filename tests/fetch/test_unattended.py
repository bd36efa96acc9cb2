"""The unattended fetch with a clock that the test moves, against an API over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from loader import api_client
from loader.app import create_app
from loader.fetch import run, unattended
from loader.fetch.state import AT_REST, FetchState, _FetchStateHolder
from loader.fetch.unattended import Clock, UnattendedFetch, second_of_day
from loader.fetch_at import DAY, HOUR, MINUTE, SPREAD_SECONDS, FetchAt, share_of
from loader.install import install
from loader.settings import Settings
from loader.unlock.progress import UnlockProgress
from loader.unlock.release_mark import KnownRelease, ReleaseMark, note_ready
from loader.unlock_state import STEPS, UnlockState, _UnlockStateHolder
from tests.fetch.published import VERSION, hold, objects, release
from tests.packing.packs import contents, unwatched
from tests.support.processes import poll
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import NOBODY_LISTENS, ONE_SECOND, bare_site
from tests.support.thin_archives import index_of

EVERY_HOUR = FetchAt(interval=HOUR)
HEAD = f"/resources/images/{VERSION}.head"


@dataclass
class Device:
    """A device whose clock a test moves. `releases` are three releases, oldest first."""

    api: RangeUpstream
    settings: Settings
    releases: list[Path]
    now: float = 0.0
    made: UnattendedFetch = field(init=False)

    def __post_init__(self) -> None:
        clock = Clock(lambda: self.now, lambda: 0)
        self.made = UnattendedFetch(self.settings, EVERY_HOUR, lambda: None, clock, "device-7")

    def log_in(self) -> None:
        """Log in at the API."""
        api_client.get_api_client().login("operator@example.com", "password")

    def look(self) -> list[str]:
        """Move the clock by the interval, wait for the fetch if there is one, and return what the API was asked for."""
        before = len(self.api.requests("GET"))
        self.now += HOUR
        self.made.step()
        poll(lambda: run.fetch_status()[0].state in AT_REST, 30, "the fetch ends")
        return [request.path for request in self.api.requests("GET")[before:]]

    def publish(self, number: int) -> None:
        """Publish a release."""
        self.api.reset()
        self.log_in()
        hold(self.api, self.settings.images_path.parent / f"published {number}", objects(self.releases[number - 1]))

    def has(self, number: int) -> bool:
        """Return whether a release is in its place."""
        return contents(self.settings.images_path) == contents(self.releases[number - 1])


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device without an archive, where nobody is logged in."""
    monkeypatch.setattr(run, "_fetch", _FetchStateHolder())
    (tmp_path / "published").mkdir()
    with RangeUpstream(tmp_path / "published") as api:
        env = {"RESOURCE_API_URL": api.url, "IMAGES_PATH": str(tmp_path / "images.enc"), "API_VERSION": VERSION}
        settings = Settings.from_env({**env, "MODEL_CACHE_DIR": str(tmp_path / "models"), **ONE_SECOND})
        api_client.configure(settings)
        yield Device(api, settings, [release(tmp_path / f"{n}.enc", n, 4096) for n in (1, 2, 3)])
        api_client.forget_login()


def test_a_newer_release_is_fetched_and_then_one_small_request_a_look(device: Device) -> None:
    device.publish(1)
    assert HEAD in device.look()
    assert device.has(1)
    for _ in range(3):
        assert device.look() == [HEAD]
    device.publish(2)
    device.look()
    assert device.has(2)
    # What the publisher took back is not followed.
    device.publish(1)
    assert device.look() == [HEAD]
    assert device.has(2)


def test_not_before_it_is_time(device: Device) -> None:
    device.publish(1)
    device.made.step()
    assert device.api.requests("GET") == []
    device.look()
    device.now += HOUR - 1
    before = len(device.api.requests("GET"))
    device.made.step()
    assert len(device.api.requests("GET")) == before


def test_without_a_login_the_log_says_so_once(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert device.look() == []
    assert [record.getMessage() for record in caplog.records if "nobody is logged in" in record.getMessage()] == [
        "unattended fetch: nobody is logged in, so that no newer release is looked for"
    ]
    device.publish(1)
    # The next look has its own time.
    device.made.step()
    assert device.api.requests("GET") == []
    device.look()
    assert device.has(1)
    api_client.forget_login()
    device.look()
    assert caplog.text.count("nobody is logged in") == 2


def test_a_way_back_on_purpose_stays(device: Device) -> None:
    directory = device.settings.model_cache_dir
    note_ready(directory, ReleaseMark(), KnownRelease.of(index_of(device.releases[1]).stored), proven=True)
    install(device.releases[0], device.settings.images_path, VERSION, unwatched)
    device.publish(2)
    assert device.look() == [HEAD]
    assert device.has(1)
    device.publish(3)
    device.look()
    assert device.has(3)


def test_without_an_archive_only_no_older_release_than_was_ready_comes(device: Device) -> None:
    directory = device.settings.model_cache_dir
    note_ready(directory, ReleaseMark(), KnownRelease.of(index_of(device.releases[1]).stored), proven=True)
    device.publish(1)
    assert device.look() == [HEAD]
    assert run.fetch_status()[0].state is FetchState.IDLE
    device.publish(2)
    device.look()
    assert device.has(2)


def test_an_api_that_is_away_is_asked_again_soon(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.publish(1)
    device.api.objects[HEAD].statuses = [503] * 2
    assert device.look() == [HEAD]
    device.now += 599
    device.made.step()
    assert run.fetch_status()[0].state is FetchState.IDLE
    for _ in range(2):
        device.now += 600
        device.made.step()
    device.look()
    assert device.has(1)
    assert caplog.text.count("is not known") == 1


def test_a_release_that_is_not_published(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.log_in()
    for _ in range(2):
        device.look()
    assert run.fetch_status()[0].state is FetchState.IDLE
    assert caplog.text.count("no newer release can be fetched") == 1


def test_a_fault_of_the_loader_itself_does_not_end_the_looks(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device.publish(1)
    with monkeypatch.context() as patch:
        patch.setattr(unattended, "published_head", lambda _version: 1 / 0)
        device.look()
    assert "ZeroDivisionError" in caplog.text
    device.look()
    assert device.has(1)


def test_a_look_waits_for_an_unlock_and_for_a_fetch(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    unlock = _UnlockStateHolder()
    monkeypatch.setattr("loader.unlock.run._unlock", unlock)
    device.publish(1)
    unlock.start(UnlockProgress(STEPS))
    assert device.look() == []
    unlock.set(UnlockState.ERROR)
    fetching = _FetchStateHolder()
    fetching.start("other", UnlockProgress(STEPS))
    with monkeypatch.context() as patch:
        patch.setattr(run, "_fetch", fetching)
        device.made.step()
    assert device.api.requests("GET") == []
    # Its time has come already, so that it needs no further hour.
    device.made.step()
    poll(lambda: run.fetch_status()[0].state is FetchState.FETCHED, 30, "the fetch ends")
    assert device.has(1)


def test_a_loader_that_looks_stops_at_once(tmp_path: Path) -> None:
    name = "device-7"
    begun = int(second_of_day() - SPREAD_SECONDS * share_of(name) - HOUR / 2) % DAY
    at = f"{begun // HOUR:02}:{begun % HOUR // MINUTE:02}"
    with bare_site(tmp_path, NOBODY_LISTENS, FETCH_AT=at, DEVICE_NAME=name) as site:
        told = "nobody is logged in, so that no newer release"
        poll(lambda: any(told in line["message"] for line in site.loader.log_lines()), 20, "a look")
        assert site.loader.stop() == 0


def test_no_thread_without_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("threading.Thread.start", lambda thread: started.append(thread.name))
    env = {"MODEL_CACHE_DIR": str(tmp_path), "IMAGES_PATH": str(tmp_path / "images.enc")}
    for text, expected in (("", False), ("02:30", True)):
        started.clear()
        create_app(Settings.from_env({**env, "FETCH_AT": text}))
        assert ("unattended fetch" in started) == expected
