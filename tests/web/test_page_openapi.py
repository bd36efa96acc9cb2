"""GET /openapi.json, and whether it describes the interface correctly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from loader.web.page import OPENAPI_PATH
from loader.web.replies import STATUS_BY_CODE, title_of
from loader.web.service_schemas import StatusResponse
from tests.support.http_calls import call
from tests.support.sites import BareSite
from tests.web.described import DOCUMENT, require_valid
from tests.web.test_replies import UNLOCK_ONLY
from tools.openapi import document as described
from tools.openapi import problems
from tools.openapi.operations import OPERATIONS, Operation

MANUAL = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
FLASKS_OWN = {"NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405}


@pytest.fixture
def app() -> Flask:
    """The application of the loader, to which a test can add routes."""
    return described.application()


def codes_by_status(operation: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            for narrowed in media["schema"].get("allOf", [])[1:]:
                yield from ((int(status), code) for code in narrowed["properties"]["code"]["enum"])


def all_codes() -> set[tuple[int, str]]:
    return {found for path in DOCUMENT["paths"].values() for each in path.values() for found in codes_by_status(each)}


def test_the_file_is_generated_from_the_code() -> None:
    assert OPENAPI_PATH.read_text() == described.document_text(), "run python -m tools.openapi"


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())
    broken = {**DOCUMENT, "paths": {"/x": {"get": {"responses": {"200": {}}}}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_a_route_without_a_description_is_refused(app: Flask) -> None:
    app.add_url_rule("/", "a page", lambda: "", methods=["GET"])
    app.add_url_rule("/static/<path:name>", "a file of the page", lambda name: name, methods=["GET"])
    assert described.document(app) == DOCUMENT
    app.add_url_rule("/new", "new", lambda: "", methods=["GET"])
    with pytest.raises(KeyError, match="new"):
        described.document(app)


def test_every_operation_has_a_route(app: Flask) -> None:
    assert {rule.endpoint for rule in described.described(app)} == set(OPERATIONS)


def test_an_unknown_code_is_refused(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "health.health", Operation(reply={}, codes=("HEALTH_FAILED",)))
    with pytest.raises(KeyError, match="HEALTH_FAILED"):
        described.document(app)


def test_every_code_that_a_request_can_get_is_described_with_its_status() -> None:
    expected = {code: status for code, status in STATUS_BY_CODE.items() if code not in UNLOCK_ONLY}
    assert all_codes() == {(status, code) for code, status in expected.items()} | {(404, "NOT_FOUND")}
    enumerated = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert set(enumerated) == set(expected) | set(FLASKS_OWN)


def test_the_manual_lists_the_same_codes() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (\d{3}) \|", MANUAL, re.MULTILINE)
    assert {(int(status), code) for code, status in rows} == all_codes() | {(405, "METHOD_NOT_ALLOWED")}


def test_the_manual_lists_the_same_operations() -> None:
    rows = re.findall(r"^\| (GET|POST) `(/[^`]*)` \|", MANUAL, re.MULTILINE)
    assert set(rows) == {(method.upper(), path) for path, each in DOCUMENT["paths"].items() for method in each}


def test_the_manual_shows_the_fields_of_the_status() -> None:
    (row,) = re.findall(r"^\| GET `/status` \|.*$", MANUAL, re.MULTILINE)
    assert re.findall(r'"(\w+)":', row) == list(StatusResponse().fields)


def test_retryable_refusals_have_retry_after() -> None:
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for status, code in codes_by_status(operation):
                headers = operation["responses"][str(status)]["headers"]
                assert "X-Request-ID" in headers
                assert code not in problems.WITH_RETRY_AFTER or "Retry-After" in headers


def test_every_example_matches_its_schema() -> None:
    shown = [(DOCUMENT["components"]["schemas"]["Problem"], each) for each in examples("components", "examples")]
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for holder in (operation.get("requestBody", {}), operation["responses"]["200"]):
                for media in holder.get("content", {}).values():
                    shown += [(media["schema"], media["example"])] if "example" in media else []
    assert len(shown) > 2 * len(OPERATIONS)
    for schema, example in shown:
        require_valid(schema, example)
        if isinstance(example, dict) and "status" in example and "code" in example:
            assert example["title"] == title_of(example["status"])


def examples(*keys: str) -> Iterator[Any]:
    found: dict[str, Any] = DOCUMENT
    for key in keys:
        found = found[key]
    return (each["value"] for each in found.values())


def test_a_field_that_is_not_described_is_noticed() -> None:
    schema = {"$ref": "#/components/schemas/HealthResponse"}
    require_valid(schema, {"status": "healthy"})
    for wrong in ({"status": "healthy", "since": 1}, {}, {"status": "ill"}):
        with pytest.raises(ValidationError):
            require_valid(schema, wrong)


def test_the_loader_serves_the_file(lonely: BareSite) -> None:
    reply = call(lonely.url, "GET", "/openapi.json")
    assert reply.body == OPENAPI_PATH.read_bytes()
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.headers["Cache-Control"] == "no-cache"
    head = call(lonely.url, "HEAD", "/openapi.json")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(reply.body))
    assert head.headers["ETag"] == reply.headers["ETag"]


def test_a_client_with_the_current_etag_gets_304(lonely: BareSite) -> None:
    tag = call(lonely.url, "GET", "/openapi.json").headers["ETag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = call(lonely.url, "GET", "/openapi.json", headers={"If-None-Match": sent})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    for sent in ('"other"', "", "no tag at all"):
        assert call(lonely.url, "GET", "/openapi.json", headers={"If-None-Match": sent}).status == 200
