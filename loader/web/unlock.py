"""POST /unlock, GET /unlock/status and GET /unlock/plan."""

from __future__ import annotations

from dataclasses import asdict, fields

from flask import Blueprint

from loader.docker_engine import DockerEngine
from loader.settings import Settings
from loader.unlock import plan_unlock, start_unlock, unlock_status
from loader.unlock_plan import UnlockPlan
from loader.unlock_progress import ProgressReport
from loader.web.bodies import json_body
from loader.web.schemas import LoginRequest

# The fields of a report, before the first run.
_NOTHING_YET = {field.name: None for field in fields(ProgressReport)}


def blueprint(settings: Settings, engine: DockerEngine) -> Blueprint:
    """The routes."""
    routes = Blueprint("unlock", __name__)

    @routes.post("/unlock")
    def unlock() -> dict[str, str]:
        """Start an unlock, unless one runs or nothing is left to do."""
        credentials = json_body(LoginRequest())
        state = start_unlock(settings, engine, credentials["email"], credentials["password"])
        return {"state": state.value}

    @routes.get("/unlock/status")
    def status() -> dict[str, object]:
        """Where the unlock stands, how far it is, and what to do if it failed."""
        record, progress = unlock_status()
        failure = record.failure
        return {
            "state": record.state.value,
            "error": record.error,
            "code": failure.code if failure is not None else None,
            "retryable": failure.retryable if failure is not None else None,
            "hint": failure.hint if failure is not None else None,
            **(asdict(progress) if progress is not None else _NOTHING_YET),
        }

    @routes.get("/unlock/plan")
    def plan() -> dict[str, object]:
        """What an unlock would do now, without a login and without doing it."""
        return plan_document(plan_unlock(settings, engine))

    return routes


def plan_document(plan: UnlockPlan) -> dict[str, object]:
    """The plan as JSON. Sizes are in bytes."""
    return {
        "archive": str(plan.archive),
        "created": plan.created,
        "tar_size": plan.tar_size,
        "mode": plan.mode,
        "images": [asdict(image) for image in plan.images],
        "places": [
            {
                "paths": [str(path) for path in place.paths],
                "needed": place.needed,
                "free": place.free,
                "writable": place.writable,
                "fits": place.fits,
            }
            for place in plan.places
        ],
        "engine_answers": plan.engine_answers,
        "done": plan.done,
        "fits": plan.fits,
    }
