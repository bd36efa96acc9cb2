"""Whether an answer is one that the description of the interface tells of."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from loader.web.page import OPENAPI_PATH
from tests.support.http_calls import Reply

DOCUMENT: dict[str, Any] = json.loads(OPENAPI_PATH.read_text())


def operations() -> list[tuple[str, str]]:
    """Method and path of all that is described, the path with `model.onnx` for each parameter."""
    return [
        (method.upper(), path.replace("{filename}", "model.onnx"))
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    ]


def require_valid(schema: dict[str, Any], value: object) -> None:
    """Raises ValidationError unless `value` is as `schema`, a part of the document, says."""
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def require_described(method: str, path: str, reply: Reply) -> None:
    """The answer to `method` and `path`, one of `operations`, has a status, a type and a shape that are described.

    That the loader itself may fail is described as well, and is no excuse.
    """
    operation = DOCUMENT["paths"][path.replace("model.onnx", "{filename}")][method.lower()]
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
