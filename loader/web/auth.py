"""POST /login and POST /lock."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint

from loader.api_client import forget_login, get_api_client, user
from loader.fetch.run import interrupt as interrupt_fetch
from loader.last_events import login_audited
from loader.login_throttle import LoginThrottle
from loader.logs import failures_audited
from loader.unattended_login import UnattendedLogin
from loader.unlock.run import interrupt as interrupt_unlock
from loader.web.bodies import json_body
from loader.web.guard import client_address
from loader.web.request_schemas import LoginRequest
from loader.web.service_schemas import LockResponse, OkResponse


def blueprint(throttle: LoginThrottle, directory: Path, unattended: UnattendedLogin | None) -> Blueprint:
    """Return the routes of the login. The last login is remembered in `directory`."""
    routes = Blueprint("auth", __name__)

    @routes.post("/login")
    def login() -> dict[str, object]:
        """Log in to the resource API, for all later loads and uploads."""
        with failures_audited("login"):
            credentials = json_body(LoginRequest())
        email = credentials["email"]
        with login_audited(directory, email), throttle.login(client_address(), email):
            get_api_client().login(email, credentials["password"])
        return dict(OkResponse().dump({"status": "ok"}))

    @routes.post("/lock")
    def lock() -> dict[str, object]:
        """Forget the login, end what depends on it, and refuse loads and uploads until the next login."""
        with failures_audited("lock", user=user()) as audit:
            # Interrupt first, because the run may still log in until then, and that login must be forgotten too.
            if unattended is not None:
                unattended.lock()
            interrupt_unlock()
            interrupt_fetch("the loader was locked")
            forget_login()
        audit.write("ok")
        return dict(LockResponse().dump({"status": "locked"}))

    return routes
