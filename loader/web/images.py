"""The releases of this device and of the API, POST and GET /images/fetch, and POST /images/fetch/cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from flask import Blueprint
from marshmallow import ValidationError

from loader import api_client
from loader.fetch.run import fetch_status, interrupt, start_fetch
from loader.logs import failures_audited
from loader.published import head_path, published_objects, published_versions
from loader.settings import Settings
from loader.unlock.remembered import ProvenRelease, Remembered
from loader.web.bodies import json_body
from loader.web.guard import TransferSlots
from loader.web.release_schemas import (
    FetchResponse,
    FetchStatusResponse,
    PublishedResponse,
    ReleasesResponse,
    report_of,
)
from loader.web.request_schemas import FetchRequest, check_version


def blueprint(settings: Settings, loaded: Callable[[], int | None], slots: TransferSlots) -> Blueprint:
    """Return the routes of releases. `loaded` is described at `loader.fetch.right_of_way.RightOfWay`."""
    routes = Blueprint("images", __name__)

    @routes.get("/images/releases")
    def releases() -> dict[str, object]:
        """The release that was unlocked last on this device, and the one before. Asks no other service."""
        remembered = Remembered.read_if_sound(settings.model_cache_dir)
        both = {"present": _known(remembered.present), "previous": _known(remembered.previous)}
        return dict(ReleasesResponse().dump(both))

    @routes.get("/images/published")
    def published() -> dict[str, object]:
        """The versions that the resource API has. Takes a slot, because it waits for the API."""
        with slots.take():
            versions = published_versions(published_objects())
        return dict(PublishedResponse().dump({"versions": [version for version in versions if _is_version(version)]}))

    @routes.post("/images/fetch")
    def fetch() -> dict[str, object]:
        """Start to fetch a release, or join the fetch of it. The engine is not touched: unlock afterwards."""
        with failures_audited("fetch", user=api_client.user()) as audit:
            request = json_body(FetchRequest())
            version = request.get("version", settings.api_version)
            audit.file, audit.version = head_path(version), version
            answer = start_fetch(settings, version, loaded, request.get("source"))
        # A run that starts writes its own audit line.
        if not answer.started:
            audit.write("joined")
        return dict(FetchResponse().dump(answer.record))

    @routes.get("/images/fetch")
    def fetch_report() -> dict[str, object]:
        """Return the state and the progress of the fetch, and what to do if it failed."""
        record, progress = fetch_status()
        fetched = {"state": record.state, "version": record.version, "release": record.release}
        return dict(FetchStatusResponse().dump({**fetched, **report_of(record, progress)}))

    @routes.post("/images/fetch/cancel")
    def cancel() -> dict[str, object]:
        """Interrupt the fetch, if one is running. What has come stays, and the next fetch goes on with it."""
        with failures_audited("cancel", user=api_client.user()) as audit:
            interrupt("it was cancelled")
        audit.write("ok")
        return dict(FetchResponse().dump(fetch_status()[0]))

    return routes


def _known(release: ProvenRelease | None) -> dict[str, object] | None:
    return {**asdict(release.head.release), "head": release.digest} if release is not None else None


def _is_version(version: str) -> bool:
    try:
        check_version(version)
    except ValidationError:
        return False
    return True
