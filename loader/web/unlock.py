"""POST /unlock, GET /unlock/status and GET /unlock/plan."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial

from flask import Blueprint

from loader.docker_engine import DockerEngine
from loader.login_throttle import LoginThrottle
from loader.logs import failures_audited
from loader.settings import Settings
from loader.unlock.progress import ProgressReport
from loader.unlock.run import plan_unlock, start_unlock, unlock_status
from loader.web.bodies import json_body
from loader.web.guard import client_address
from loader.web.schemas import LoginRequest, UnlockPlanResponse, UnlockResponse, UnlockStatusResponse

# The fields of a report, before the first run.
_NOTHING_YET = {field.name: None for field in fields(ProgressReport)}


def blueprint(settings: Settings, engine: DockerEngine, throttle: LoginThrottle) -> Blueprint:
    """The routes."""
    routes = Blueprint("unlock", __name__)

    @routes.post("/unlock")
    def unlock() -> dict[str, object]:
        """Start an unlock, unless one runs or nothing is left to do."""
        # A run that begins writes its own line.
        with failures_audited("unlock", str(settings.images_path)):
            credentials = json_body(LoginRequest())
            admit = partial(throttle.begin, client_address())
            state = start_unlock(settings, engine, credentials["email"], credentials["password"], admit)
        return dict(UnlockResponse().dump({"state": state}))

    @routes.get("/unlock/status")
    def status() -> dict[str, object]:
        """Where the unlock stands, how far it is, and what to do if it failed."""
        record, progress = unlock_status()
        failure = record.failure
        report = {
            "state": record.state,
            "error": record.error,
            "code": failure.code if failure is not None else None,
            "retryable": failure.retryable if failure is not None else None,
            "hint": failure.hint if failure is not None else None,
            **(asdict(progress) if progress is not None else _NOTHING_YET),
        }
        return dict(UnlockStatusResponse().dump(report))

    @routes.get("/unlock/plan")
    def plan() -> dict[str, object]:
        """What an unlock would do now, without a login and without doing it."""
        return dict(UnlockPlanResponse().dump(plan_unlock(settings, engine)))

    return routes
