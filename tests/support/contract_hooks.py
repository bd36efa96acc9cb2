"""What a description cannot say of the requests that schemathesis makes. Loaded by schemathesis itself."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """The filename of a valid body repeats the one of the path."""
    valid = case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if valid and case.path.startswith("/load/") and isinstance(case.body, dict):
        case.body["filename"] = case.path_parameters["filename"]
