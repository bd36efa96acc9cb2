"""A loader under gunicorn together with what it talks to, started and stopped as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD, login
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

NOBODY_LISTENS = "http://127.0.0.1:9"  # the port of the discard service: refused at once
NO_ENGINE = "unix:///nonexistent/docker.sock"
LOG_SECONDS = 10.0


@dataclass(frozen=True)
class BareSite:
    """A loader and the disk of its device."""

    loader: LoaderServer
    models: Path

    @property
    def url(self) -> str:
        """Where the loader answers."""
        return self.loader.url

    def audit_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """The audit lines so far, in order."""
        lines = [line for line in self.loader.log_lines() if line["logger"] == "loader.audit"]
        return [line for line in lines if event in (None, line["event"])]

    def next_audit_line(self, event: str, count_before: int) -> dict[str, Any]:
        """The line after the first `count_before`, which may come a moment after the answer."""
        poll(lambda: len(self.audit_lines(event)) > count_before, LOG_SECONDS, f"an audit line of a {event}")
        return self.audit_lines(event)[count_before]


@dataclass(frozen=True)
class Site(BareSite):
    """A device whose loader is logged in at a reference API."""

    api: ResourceApiServer

    def stored(self, path: str) -> Path:
        """The file in which the API keeps the object at `path`."""
        return self.api.data_dir / "resources" / path


@dataclass(frozen=True)
class FaultySite(BareSite):
    """A device whose loader is logged in at an API that misbehaves; it waits for one second, not sixty."""

    api: FaultyApi


@contextmanager
def bare_site(directory: Path, api_url: str = NOBODY_LISTENS, **env: str) -> Iterator[BareSite]:
    """A loader below the new `directory`; no engine answers it unless `env` names one."""
    models = directory / "device" / "models"
    models.mkdir(parents=True)
    defaults = {
        "IMAGES_PATH": str(directory / "device" / "images.enc"),
        "MODEL_CACHE_DIR": str(models),
        "RESOURCE_API_URL": api_url,
        "DOCKER_HOST": NO_ENGINE,
    }
    with LoaderServer(directory, {**defaults, **env}) as loader:
        yield BareSite(loader, models)


@contextmanager
def real_site(directory: Path, **env: str) -> Iterator[Site]:
    """A reference API and a loader that is logged in there."""
    (directory / "resource-api").mkdir(parents=True)
    with ResourceApiServer(directory / "resource-api") as api:
        api.add_user(EMAIL, PASSWORD)
        with bare_site(directory, api.url, **env) as bare:
            assert login(bare.url).status == 200
            yield Site(bare.loader, bare.models, api)


@contextmanager
def faulty_site(directory: Path, **env: str) -> Iterator[FaultySite]:
    """A faulty API, healthy at first, and a loader that is logged in there."""
    timeouts = {"API_CONNECT_TIMEOUT": "1", "API_READ_TIMEOUT": "1"}
    with FaultyApi() as api, bare_site(directory, api.url, **{**timeouts, **env}) as bare:
        assert login(bare.url).status == 200
        yield FaultySite(bare.loader, bare.models, api)
