"""Hooks that schemathesis loads, for rules about requests that an OpenAPI document cannot express."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Copy the filename of the path into a valid body of a load, because the loader requires that they are equal."""
    valid = case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if valid and case.path.startswith("/load/") and isinstance(case.body, dict):
        case.body["filename"] = case.path_parameters["filename"]
