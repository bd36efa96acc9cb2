"""POST /unlock, GET /unlock/status, POST /unlock/cancel, GET /unlock/plan and POST /unlock/back."""

from __future__ import annotations

from dataclasses import asdict

from flask import Blueprint

from loader import api_client
from loader.docker_engine import DockerEngine
from loader.login_throttle import LoginThrottle
from loader.logs import failures_audited, told_user
from loader.settings import Settings
from loader.unattended_login import UnattendedLogin
from loader.unlock.remembered import ProvenRelease
from loader.unlock.run import Credentials, go_back, interrupt, start_unlock, unlock_status
from loader.unlock.shared_plan import SharedPlan
from loader.unlock_state import AT_REST, UnlockRecord
from loader.web.bodies import json_body
from loader.web.guard import client_address
from loader.web.release_schemas import report_of
from loader.web.request_schemas import UnlockRequest
from loader.web.unlock_schemas import (
    UnlockBackResponse,
    UnlockOutcome,
    UnlockPlanResponse,
    UnlockResponse,
    UnlockStatusResponse,
)


def blueprint(
    settings: Settings, engine: DockerEngine, throttle: LoginThrottle, unattended: UnattendedLogin | None
) -> Blueprint:
    """Return the routes of the unlock."""
    routes = Blueprint("unlock", __name__)
    shared = SharedPlan(settings, engine)

    @routes.post("/unlock")
    def unlock() -> dict[str, object]:
        """Start an unlock, unless one is running or nothing is left to do."""
        with failures_audited("unlock", str(settings.images_path)) as audit:
            login = json_body(UnlockRequest())
            audit.user = told_user(login["email"])
            credentials = Credentials(client_address(), login["email"], login["password"])
            answer = start_unlock(settings, engine, throttle, credentials, login.get("allow_older"))
        # A run that starts writes its own audit line.
        if not answer.started:
            audit.write("unchanged" if answer.record.state in AT_REST else "joined")
        return dict(UnlockResponse().dump({**_outcome(answer.record), "started": answer.started}))

    @routes.get("/unlock/status")
    def status() -> dict[str, object]:
        """Return the state and the progress of the unlock, and what to do if it failed."""
        record, progress = unlock_status()
        return dict(UnlockStatusResponse().dump({**_outcome(record), **report_of(record, progress)}))

    @routes.post("/unlock/cancel")
    def cancel() -> dict[str, object]:
        """Interrupt the unlock, if one is running. The login stays, and AUTO_UNLOCK starts no further unlock."""
        with failures_audited("cancel", str(settings.images_path), api_client.user()) as audit:
            if unattended is not None:
                unattended.cancel_unlock()
            interrupt("it was cancelled")
        audit.write("ok")
        return dict(UnlockOutcome().dump(_outcome(unlock_status()[0])))

    @routes.get("/unlock/plan")
    def plan() -> dict[str, object]:
        """Return what an unlock would do now, or did two seconds ago. Needs no login and changes nothing."""
        return dict(UnlockPlanResponse().dump(shared.get()))

    @routes.post("/unlock/back")
    def back() -> dict[str, object]:
        """Let the previous release take the place of the present one. Needs no login."""
        with failures_audited("back", user=api_client.user()) as record:
            done = go_back(settings, engine)
        record.version = done.present.head.release.version
        record.write("ok", reason=f"{done.present.title} has taken the place of {done.former.title}.")
        releases = {"present": _release(done.present), "previous": _release(done.former)}
        return dict(UnlockBackResponse().dump({**releases, "names": done.names}))

    return routes


def _release(release: ProvenRelease) -> dict[str, object]:
    references = [image.reference for image in release.images]
    return {**asdict(release.head.release), "images": references}


def _outcome(record: UnlockRecord) -> dict[str, object]:
    """Return the state, and whether it rests on more than what the archive says of itself."""
    return {"state": record.state, "authenticated": api_client.authenticated(), "proven": record.proven}
