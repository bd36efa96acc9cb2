"""Checks of responses against the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from loader.web.page import OPENAPI_PATH
from tests.support.http_calls import Reply

DOCUMENT: dict[str, Any] = json.loads(OPENAPI_PATH.read_text())


def operations() -> list[tuple[str, str]]:
    """Return the method and path of every operation, with `model.onnx` in place of the path's parameter.

    `/models/{path}` has `day/model.onnx` in its place.
    """
    return [
        (method.upper(), path.replace("{filename}", "model.onnx").replace("{path}", "day/model.onnx"))
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    ]


def require_valid(schema: dict[str, Any], value: object) -> None:
    """Validate `value` against `schema`, a part of the document. Raises ValidationError if it does not match."""
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def require_described(method: str, path: str, reply: Reply) -> None:
    """Check that the document describes the status, media type, body and required headers of `reply`.

    `method` and `path` are one of `operations`. A response with the code INTERNAL fails although the document describes
    it, because it means a defect of the loader.
    """
    operation = DOCUMENT["paths"][path.replace("day/model.onnx", "{path}").replace("model.onnx", "{filename}")][
        method.lower()
    ]
    described = operation["responses"].get(str(reply.status))
    assert described is not None, (method, path, reply)
    media = described.get("content", {}).get(reply.headers.get_content_type())
    if reply.body:
        assert media is not None, (method, path, reply)
        if reply.headers.get_content_subtype().endswith("json"):
            document = json.loads(reply.body)
            require_valid(media["schema"], document)
            assert document.get("code") != "INTERNAL", (method, path, reply)
    missing = {name for name, header in described["headers"].items() if header.get("required")} - set(reply.headers)
    assert not missing
