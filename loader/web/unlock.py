"""POST /unlock and GET /unlock/status."""

from __future__ import annotations

from flask import Blueprint

from loader.docker_engine import DockerEngine
from loader.settings import Settings
from loader.unlock import start_unlock, unlock_record
from loader.web.bodies import json_body
from loader.web.schemas import LoginRequest


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
    def unlock_status() -> dict[str, str | None]:
        """Where the unlock stands."""
        record = unlock_record()
        return {"state": record.state.value, "error": record.error, "code": record.code}

    return routes
