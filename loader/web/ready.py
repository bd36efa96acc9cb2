"""GET /ready: whether loads can be served."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response

from loader import api_client
from loader.docker_engine import DockerEngine
from loader.errors import ApiUnreachable, LoaderError, NotLoggedIn
from loader.model_cache.cache import ModelCache
from loader.web.replies import problem
from loader.web.schemas import ReadyResponse


def blueprint(engine: DockerEngine, cache: ModelCache) -> Blueprint:
    """The route."""
    routes = Blueprint("ready", __name__)

    @routes.get("/ready")
    def ready() -> Response | dict[str, object]:
        """Whether loads can be served, and if not, why. Asks the engine and the disk, never the resource API."""
        reasons = list(_reasons(engine, cache))
        if not reasons:
            return dict(ReadyResponse().dump({"ready": True}))
        # Not the statuses of the codes: a probe asks one question, and 503 is the answer that it knows.
        return problem(
            reasons[0].code,
            503,
            " ".join(map(str, reasons)),
            retryable=all(reason.retryable for reason in reasons),
            reasons=[reason.code for reason in reasons],
        )

    return routes


def _reasons(engine: DockerEngine, cache: ModelCache) -> Iterator[LoaderError]:
    if not api_client.authenticated():
        yield NotLoggedIn("Nobody has logged in since the loader was started or locked.")
    if not api_client.reachable():
        yield ApiUnreachable("The resource API did not answer the last request.")
    for check in (cache.require_writable, engine.ping):
        try:
            check()
        except LoaderError as reason:
            yield reason
