"""GET /health, GET /ready and GET /status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from flask import Blueprint, Response

from loader import api_client
from loader.docker_engine import DockerEngine
from loader.errors import LoaderError, NotLoggedIn, hint_of
from loader.last_events import LastEvent, last_events
from loader.model_cache.cache import ModelCache
from loader.settings import Settings
from loader.unattended_login import UnattendedLogin
from loader.version import VERSION
from loader.web.replies import problem
from loader.web.service_schemas import HealthResponse, ReadyResponse, StatusResponse


def blueprint(
    settings: Settings, engine: DockerEngine, cache: ModelCache, unattended: UnattendedLogin | None
) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> dict[str, object]:
        """Liveness: this process responds. Asks no other service."""
        return dict(HealthResponse().dump({"status": "healthy"}))

    @routes.get("/ready")
    def ready() -> Response | dict[str, object]:
        """Whether loads can be served, and if not, why. Asks the engine and the disk, never the resource API."""
        reasons = list(_reasons(engine, cache, unattended))
        if not reasons:
            return dict(ReadyResponse().dump({"ready": True}))
        # The status is always 503 and not that of the code, because a probe understands only 503 as "not ready".
        return problem(
            reasons[0].code,
            503,
            " ".join(map(str, reasons)),
            hint=" ".join(reason.hint for reason in reasons),
            retryable=all(reason.retryable for reason in reasons),
            reasons=[reason.code for reason in reasons],
        )

    @routes.get("/status")
    def status() -> dict[str, object]:
        """The version, the login, what happened last, and what the cache holds and downloads."""
        fields = {
            "status": "healthy",
            "version": VERSION,
            "device": settings.device_name,
            "api": settings.api_host,
            "authenticated": api_client.authenticated(),
            "refused": _told(api_client.refusal()),
            "last": {event: _with_hint(last) for event, last in last_events(settings.model_cache_dir).items()},
            "modelCacheDir": str(settings.model_cache_dir),
            "cache": cache.status(),
        }
        return dict(StatusResponse().dump(fields))

    return routes


def _told(failure: LoaderError | None) -> dict[str, str] | None:
    return {"code": failure.code, "detail": str(failure), "hint": failure.hint} if failure is not None else None


def _with_hint(last: LastEvent | None) -> dict[str, object] | None:
    """Return the event as JSON, with the hint of its code, because its audit line has none."""
    return {**asdict(last), "hint": hint_of(last.code) if last.code is not None else None} if last is not None else None


def _reasons(engine: DockerEngine, cache: ModelCache, unattended: UnattendedLogin | None) -> Iterator[LoaderError]:
    """Yield an error for each reason why loads cannot be served."""
    if not api_client.authenticated():
        yield NotLoggedIn("Nobody has logged in since the loader was started or locked.")
    waiting = unattended.waiting() if unattended is not None else None
    failure = api_client.failure()
    if waiting is not None:
        yield waiting
    elif failure is not None:
        yield failure
    for check in (cache.require_writable, engine.ping):
        try:
            check()
        except LoaderError as reason:
            yield reason
