"""The whole document: a walk over the routes of the application."""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, class_registry
from werkzeug.routing import Rule

from loader import create_app
from loader.settings import Settings
from loader.version import VERSION
from loader.web.guard import ASKING_PATHS, PROBED_PATHS
from loader.web.replies import title_of
from loader.web.request_schemas import MODEL_PATTERN, NAME_PATTERN

from . import problems
from .examples import FILENAME, REQUEST_ID
from .operations import OPERATIONS, Operation

# The page for people, and its files.
PAGE_PATHS = ("/", "/static/")
ANSWERED_EVERYWHERE = ("NOT_FOUND", "METHOD_NOT_ALLOWED")
JSON_BODY = ("UNSUPPORTED_MEDIA_TYPE", "PAYLOAD_TOO_LARGE", "BODY_TRUNCATED", "NOT_JSON", "VALIDATION_FAILED")
FORM_BODY = ("UNSUPPORTED_MEDIA_TYPE", "LENGTH_REQUIRED", "BODY_TRUNCATED", "VALIDATION_FAILED")
REQUEST_ID_HEADER = {
    "description": "The id of the request in the log, at the resource API and in the response.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    "example": REQUEST_ID,
}
FILENAME_PARAMETER = {
    "name": "filename",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": NAME_PATTERN},
    "example": FILENAME,
}
MODEL_PARAMETER = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "`folder/filename`, or `filename` without a folder.",
    "schema": {"type": "string", "pattern": MODEL_PATTERN},
    "example": f"day/{FILENAME}",
}
PARAMETERS = {"filename": FILENAME_PARAMETER, "path": MODEL_PARAMETER}
REQUEST_ID_PARAMETER = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Kept if it is 1 to 128 letters, digits, `.`, `_` or `-`; otherwise the loader makes an id.",
    "schema": {"type": "string"},
}
ABOUT = (
    "Unlocks encrypted Docker images and serves encrypted AI models on an edge device. Failures are problem details "
    "(RFC 9457) with a stable `code`. The response to another method is 405 METHOD_NOT_ALLOWED, the response to an "
    "unknown path 404 NOT_FOUND. HEAD is supported wherever GET is."
)


def document_text() -> str:
    """Return the text of openapi.json."""
    return json.dumps(document(application()), indent=1, sort_keys=True) + "\n"


def application() -> Flask:
    """Return the loader's application, of which only the routes are used."""
    with tempfile.TemporaryDirectory() as directory:
        places = {"IMAGES_PATH": f"{directory}/images.enc", "MODEL_CACHE_DIR": f"{directory}/models"}
        return create_app(Settings.from_env(places))


def document(app: Flask) -> dict[str, Any]:
    """Return the description of `app`. Raises KeyError for a route or a code that is not described."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec("Azaion Loader", VERSION, "3.1.0", [plugin], info={"description": ABOUT})
    spec.components.header("RequestId", REQUEST_ID_HEADER)
    spec.components.parameter("RequestId", "header", REQUEST_ID_PARAMETER)
    for code in sorted(codes_of(app)):
        spec.components.example(code, problems.example(code))
    for rule in described(app):
        path, method = re.sub("<(?:path:)?(.+?)>", r"{\1}", rule.rule), method_of(rule).lower()
        spec.path(path, operations={method: _operation(app, rule)})
    whole = spec.to_dict()
    _finish(whole["components"]["schemas"], sorted(codes_of(app)))
    return whole


def described(app: Flask) -> Iterator[Rule]:
    """Return the routes that are described: all except those of the page."""
    page, static = PAGE_PATHS
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    return (rule for rule in rules if rule.rule != page and not rule.rule.startswith(static))


def codes_of(app: Flask) -> set[str]:
    """Return every code that a response may have."""
    return {code for rule in described(app) for code in codes(rule)}.union(ANSWERED_EVERYWHERE)


def codes(rule: Rule) -> set[str]:
    """Return the codes of one operation: its own, and those that follow from its method, path and body."""
    operation = OPERATIONS[rule.endpoint]
    found = {"INTERNAL", *operation.codes}
    if rule.rule not in PROBED_PATHS:
        found.add("UNTRUSTED_HOST")
    if method_of(rule) == "POST" or rule.rule.startswith(ASKING_PATHS):
        found.add("CROSS_ORIGIN")
    if rule.arguments:
        found.update(("NOT_FOUND", "VALIDATION_FAILED"))
    if operation.body is not None:
        found.update(JSON_BODY if "application/json" in operation.body else FORM_BODY)
    return found


def method_of(rule: Rule) -> str:
    """Return the one method of `rule` that Flask has not added itself."""
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method


def _operation(app: Flask, rule: Rule) -> dict[str, Any]:
    operation = OPERATIONS[rule.endpoint]
    parameters = [PARAMETERS[name] for name in sorted(rule.arguments)]
    found: dict[str, Any] = {
        "operationId": _operation_id(app, rule),
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": _text_of(app.view_functions[rule.endpoint]),
        "parameters": ["RequestId", *parameters, *operation.parameters],
        "responses": _with_request_ids({**_successes(operation), **problems.responses(codes(rule))}),
    }
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": operation.body}
    return found


def _operation_id(app: Flask, rule: Rule) -> str:
    """Return the words of the path, after the method if the path has several. A `path` is one of its words."""
    words = re.findall("[a-z]+", re.sub("<(?:path:(.+?)|.+?)>", r"\1", rule.rule))
    is_shared = sum(other.rule == rule.rule for other in described(app)) > 1
    return "_".join([method_of(rule).lower(), *words] if is_shared else words)


def _successes(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": f"{title_of(status)}.",
            "headers": dict(operation.headers),
            **({"content": content} if content else {}),
        }
        for status, content in {200: operation.reply, **operation.other_replies}.items()
    }


def _with_request_ids(responses: dict[str, Any]) -> dict[str, Any]:
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-ID"] = "RequestId"
    return responses


def _text_of(described: Any) -> str | None:
    """Return the docstring without its indentation, which Python keeps before 3.13."""
    text = described.__doc__
    return inspect.cleandoc(text) if text is not None else None


def _schema_name(schema: type[Schema] | Schema) -> str:
    return schema.__name__ if isinstance(schema, type) else type(schema).__name__


def _finish(schemas: dict[str, Any], all_codes: list[str]) -> None:
    """Add the descriptions and the codes, which marshmallow does not know."""
    for name, schema in schemas.items():
        schema["description"] = _text_of(class_registry.get_class(name))
    schemas["Problem"]["properties"]["code"]["enum"] = all_codes
