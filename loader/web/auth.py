"""POST /login."""

from __future__ import annotations

from flask import Blueprint

from loader.api_client import get_api_client
from loader.web.audited import failures_audited
from loader.web.bodies import json_body
from loader.web.schemas import LoginRequest, OkResponse


def blueprint() -> Blueprint:
    """The route."""
    routes = Blueprint("auth", __name__)

    @routes.post("/login")
    def login() -> dict[str, object]:
        """Log in to the resource API, for all later loads and uploads."""
        with failures_audited("login") as audit:
            credentials = json_body(LoginRequest())
            get_api_client().login(credentials["email"], credentials["password"])
        audit.write("ok")
        return dict(OkResponse().dump({"status": "ok"}))

    return routes
