"""GET /models, and GET and HEAD of one: models as resources that clients resume, and load only when they change."""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import UTC, datetime
from http import HTTPStatus

from flask import Blueprint, Response, request
from marshmallow import ValidationError
from werkzeug.http import quote_etag

from loader import api_client
from loader.crypto.model_parts import ResourceName
from loader.errors import RangeNotSatisfiable, hint_of
from loader.logs import failures_audited
from loader.model_list import ListedModel, ModelList
from loader.resources import Model, ResourceStore, Span, whole
from loader.web.bodies import invalid
from loader.web.guard import TransferSlots
from loader.web.model_schemas import ModelsResponse
from loader.web.request_schemas import check_folder, check_name
from loader.web.resources import PlaintextBody, streamed

# One range of bytes (RFC 9110, section 14.1.2). Python refuses to parse thousands of digits.
_RANGE = re.compile(r"bytes=\s*(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


def blueprint(store: ResourceStore, models: ModelList, slots: TransferSlots) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("models", __name__)

    @routes.get("/models")
    def listing() -> dict[str, object]:
        """The models at the resource API. Takes a slot, because it asks for as many small parts as there are models."""
        with slots.take():
            served = [name for name in models.names() if not _complaints(name)]
            entries = [_entry(listed) for listed in models.describe(served)]
        return dict(ModelsResponse().dump({"models": entries}))

    @routes.get("/models/<path:path>")
    def model(path: str) -> Response:
        """The plaintext of a model, or one range of it."""
        with failures_audited("load", path, api_client.user()) as audit, ExitStack() as on_failure:
            slot = on_failure.enter_context(slots.take())
            name = _checked(path)
            plaintext = store.load(name, _wanted)
            response = _conditional(streamed(PlaintextBody(plaintext, audit, slot)), plaintext.model)
            on_failure.pop_all()
        return response

    return routes


def _checked(path: str) -> ResourceName:
    """Return the name that the path has. Raises ValidationFailed."""
    folder, _, filename = path.rpartition("/")
    name = ResourceName(folder, filename)
    if errors := _complaints(name):
        raise invalid(errors)
    return name


def _complaints(name: ResourceName) -> dict[str, list[str]]:
    """Return what is wrong with a name, by field."""
    errors = {}
    for field, check, value in (("folder", check_folder, name.folder), ("filename", check_name, name.filename)):
        try:
            check(value)
        except ValidationError as exc:
            errors[field] = list(exc.messages)
    return errors


def _entry(listed: ListedModel) -> dict[str, object]:
    edition = listed.edition
    return {
        "folder": listed.name.folder,
        "filename": listed.name.filename,
        "size": listed.size,
        "serial": edition and edition.serial,
        "created": edition and edition.created,
        "etag": listed.identity and quote_etag(listed.identity),
        "cached": listed.cached,
        "code": listed.code,
        "hint": listed.code and hint_of(listed.code),
    }


def _wanted(model: Model) -> Span | None:
    """Return which bytes of the model the request asks for. Raises RangeNotSatisfiable."""
    if request.method == "HEAD" or _is_known(model):
        return None
    return _range_of(model) or whole(model)


def _is_known(model: Model) -> bool:
    """Return whether the client has this very edition."""
    return request.if_none_match.contains_weak(model.small.identity)


def _range_of(model: Model) -> Span | None:
    """Return the range of the model that the request asks for; None for all of it. Raises RangeNotSatisfiable."""
    only_if = request.headers.get("If-Range")
    # A weak ETag or a date does not prove that the client has bytes of this very edition, so it gets all of them.
    if only_if is not None and only_if.strip() != quote_etag(model.small.identity):
        return None
    return _span(request.headers.get("Range", ""), model.size)


def _span(header: str, size: int) -> Span | None:
    """Return the span of a Range header; None if the header is to be ignored. Raises RangeNotSatisfiable.

    Ignored are several ranges, malformed ones, and every range of an empty model, which has no satisfiable one.
    """
    match = _RANGE.fullmatch(header)
    first, last = match.groups() if match is not None else ("", "")
    if not size or not (first or last) or (first and last and int(last) < int(first)):
        return None
    begin, end = (int(first), int(last) + 1 if last else size) if first else (max(0, size - int(last)), size)
    if begin >= size:
        raise RangeNotSatisfiable(f"The model has only {size} bytes.", size)
    return Span(begin, min(end, size))


def _conditional(response: Response, model: Model) -> Response:
    """Add to the response what a resource has and the response to POST /load has not."""
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "no-store, private"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.last_modified = _created(model)
    if _is_known(model):
        response.status_code = HTTPStatus.NOT_MODIFIED
    elif request.method == "HEAD":
        response.content_length = model.size
    elif (span := _range_of(model)) is not None:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response.headers["Content-Range"] = f"bytes {span.begin}-{span.end - 1}/{model.size}"
    return response


def _created(model: Model) -> datetime | None:
    """Return when the model was made, but not later than now (RFC 9110, section 8.8.2.1); None if it does not say."""
    try:
        return min(datetime.fromisoformat(model.small.edition.created), datetime.now(UTC))
    except ValueError:  # the form of a time, but no day of any calendar
        return None
