"""Starts and stops a loader under gunicorn together with the servers that it talks to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resource_api.accounts import Role
from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.loader_server import LoaderServer
from tests.support.loads import get_status
from tests.support.processes import poll
from tests.support.procfs import open_descriptors
from tests.support.resource_api_server import ResourceApiServer

# Nothing listens on the port of the discard service, so that a connection is refused at once.
NOBODY_LISTENS = "http://127.0.0.1:9"
NO_ENGINE = "unix:///nonexistent/docker.sock"
LOG_SECONDS = 10.0
IDLE_SECONDS = 20.0
# Six failed attempts of a download then take one second instead of eight.
HASTE = {"loader.patience.FIRST_WAIT": 0.03, "loader.patience.OUTAGE_WAIT": 0.06}
ONE_SECOND = {"API_CONNECT_TIMEOUT": "1", "API_READ_TIMEOUT": "1", "API_PATIENCE": "3"}


@dataclass(frozen=True)
class BareSite:
    """A loader, and the directory `models` of its cache."""

    loader: LoaderServer
    models: Path

    @property
    def url(self) -> str:
        """The base URL of the loader."""
        return self.loader.url

    def audit_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the audit lines so far in order, only those of `event` if it is given."""
        lines = [line for line in self.loader.log_lines() if line["logger"] == "loader.audit"]
        return [line for line in lines if event in (None, line["event"])]

    def next_audit_line(self, event: str, count_before: int) -> dict[str, Any]:
        """Wait for one more audit line of `event` than `count_before`, and return it.

        The loader may write the line a moment after the response.
        """
        poll(lambda: len(self.audit_lines(event)) > count_before, LOG_SECONDS, f"an audit line of a {event}")
        return self.audit_lines(event)[count_before]

    def wait_until_idle(self) -> None:
        """Wait until no part is in use, because the files in the cache are final only then."""
        poll(lambda: not get_status(self.url)["cache"]["downloads"], IDLE_SECONDS, "no download runs")
        pid, cached = self.loader.worker_pid, f"{self.models}/"
        poll(lambda: cached not in str(open_descriptors(pid)), IDLE_SECONDS, "no open file in the cache")

    def empty_cache(self) -> None:
        """Remove all files from the cache, once none is in use."""
        self.wait_until_idle()
        for path in self.models.iterdir():
            path.unlink()


@dataclass(frozen=True)
class Site(BareSite):
    """A loader that is logged in at a reference API."""

    api: ResourceApiServer

    def stored(self, path: str) -> Path:
        """Return the file in which the API stores the object `path`."""
        return self.api.data_dir / "resources" / path


@dataclass(frozen=True)
class FaultySite(BareSite):
    """A loader that is logged in at an API that misbehaves on demand. The loader's timeouts are one second."""

    api: FaultyApi


@contextmanager
def bare_site(directory: Path, api_url: str = NOBODY_LISTENS, **env: str) -> Iterator[BareSite]:
    """Yield a loader with its files below `directory`; it reaches an engine only if `env` names one."""
    device = directory / "device"
    (device / "models").mkdir(parents=True, exist_ok=True)
    defaults = {
        "IMAGES_PATH": str(device / "images.enc"),
        "MODEL_CACHE_DIR": str(device / "models"),
        "RESOURCE_API_URL": api_url,
        "DOCKER_HOST": NO_ENGINE,
    }
    settings = {**defaults, **env}
    with LoaderServer(directory, settings) as loader:
        yield BareSite(loader, Path(settings["MODEL_CACHE_DIR"]))


@contextmanager
def real_site(directory: Path, **env: str) -> Iterator[Site]:
    """Yield a reference API, and a loader that is logged in there as a publisher."""
    (directory / "resource-api").mkdir(parents=True)
    with ResourceApiServer(directory / "resource-api") as api:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        with bare_site(directory, api.url, **env) as bare:
            assert login(bare.url).status == 200
            yield Site(bare.loader, bare.models, api)


@contextmanager
def faulty_site(directory: Path, new_api: type[FaultyApi] = FaultyApi, **env: str) -> Iterator[FaultySite]:
    """Yield a faulty API, which is healthy at first, and a loader in HASTE that is logged in there."""
    hasty = {**ONE_SECOND, "HASTE": json.dumps(HASTE)}
    with new_api() as api, bare_site(directory, api.url, **{**hasty, **env}) as bare:
        assert login(bare.url).status == 200
        yield FaultySite(bare.loader, bare.models, api)
