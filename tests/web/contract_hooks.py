"""Hooks that schemathesis loads, for rules about requests that an OpenAPI document cannot express."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Make a valid body agree with its path, and put the folder before the file, where an upload that is kept wants it.

    The loader requires that the filename of the path and that in the body are equal.
    """
    if case.meta is None or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if not isinstance(case.body, dict):
        return
    if case.path.startswith("/load/") or case.path.endswith("/offset"):
        case.body["filename"] = case.path_parameters["filename"]
    elif case.path.startswith("/upload/"):
        case.body = {"folder": "day", **case.body}
