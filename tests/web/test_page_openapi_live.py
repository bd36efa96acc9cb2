"""The description compared with a running loader, by schemathesis and by requests that it does not make."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from loader.web.page import OPENAPI_PATH
from resource_api.accounts import Role
from tests.conftest import TOLD, StartLoader
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import call, login, parse_reply, send_and_close, upload
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import BareSite, Site, real_site
from tests.web.contract import run_contract
from tests.web.described import DOCUMENT, operations, require_described
from tools.openapi.examples import CREDENTIALS, FILENAME

EXAMPLES = 15
FEW_EXAMPLES = 3
LABELS = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A device that has everything that the examples of the description name, except an engine."""
    with real_site(tmp_path_factory.mktemp("furnished")) as running:
        running.api.add_user(CREDENTIALS["email"], CREDENTIALS["password"], Role.PUBLISHER)
        seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])
        assert upload(running.url, "day", FILENAME, bytes(100_000)).status == 200
        yield running


class RecordProperty(Protocol):
    """The type of pytest's fixture `record_property`."""

    def __call__(self, name: str, value: object) -> None: ...


def test_a_furnished_device_responds_as_described(
    furnished: Site, tmp_path: Path, record_property: RecordProperty
) -> None:
    # POST /lock is left out, because the device must stay logged in; GET /ready, because there is no engine.
    document = tmp_path / "without.json"
    apart = {"/lock", "/ready"}
    paths = {path: methods for path, methods in DOCUMENT["paths"].items() if path not in apart}
    document.write_text(json.dumps({**DOCUMENT, "paths": paths}))
    # A fetch is refused with 503 while another release is fetched.
    run = run_contract(document, furnished.url, tmp_path, examples=EXAMPLES, faults=[503])
    record_property(TOLD, f"schemathesis, a furnished device: {run.summary()}")
    assert run.passed, run.output
    assert set(run.statuses) == LABELS - {"POST /lock", "GET /ready"}
    for label, counted in run.statuses.items():
        # No release was ever unlocked there.
        assert counted[409 if label == "POST /unlock/back" else 200], (label, counted)


def test_a_bare_device_responds_as_described(lonely: BareSite, tmp_path: Path, record_property: RecordProperty) -> None:
    run = run_contract(OPENAPI_PATH, lonely.url, tmp_path, examples=FEW_EXAMPLES, faults=[503])
    record_property(TOLD, f"schemathesis, a bare device: {run.summary()}")
    assert run.passed, run.output
    refused = {"POST /login": 503, "POST /unlock": 404, "GET /unlock/plan": 404, "GET /ready": 503}
    refused |= {"POST /unlock/back": 409, "POST /images/fetch": 401}
    refused |= {
        "POST /load/{filename}": 401,
        "POST /upload/{filename}": 401,
        "GET /models/{path}": 401,
        "GET /models": 401,
    }
    for label, status in refused.items():
        assert run.statuses[label][status], label
        assert not run.statuses[label][200], label
    assert run.statuses["POST /lock"][200]


def test_a_device_with_all_it_needs_is_ready(
    docker_engine: Engine, resource_api: ResourceApiServer, start_loader: StartLoader
) -> None:
    resource_api.add_user(CREDENTIALS["email"], CREDENTIALS["password"])
    url = start_loader(RESOURCE_API_URL=resource_api.url, DOCKER_HOST=docker_engine.host).url
    assert login(url, CREDENTIALS).status == 200
    ready = call(url, "GET", "/ready")
    assert ready.json() == {"ready": True}
    require_described("GET", "/ready", ready)


def test_an_undescribed_response_fails_the_run(lonely: BareSite, tmp_path: Path) -> None:
    """Each case removes something from the description that the loader does: a field, a status, a code, a type."""
    document = copy.deepcopy(DOCUMENT)
    paths = document["paths"]
    shape = document["components"]["schemas"]["StatusResponse"]
    del shape["properties"]["authenticated"]
    shape["required"].remove("authenticated")
    del paths["/unlock/plan"]["get"]["responses"]["404"]
    narrowed = paths["/unlock"]["post"]["responses"]["404"]["content"]["application/problem+json"]["schema"]["allOf"][1]
    narrowed["properties"]["code"]["enum"] = ["NOT_FOUND"]
    health = paths["/health"]["get"]["responses"]["200"]
    health["content"] = {"text/plain": {}}
    paths["/openapi.json"]["get"]["parameters"][-1]["schema"]["maxLength"] = 3
    document["paths"] = {path: each for path, each in paths.items() if "{" not in path}
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    run = run_contract(changed, lonely.url, tmp_path, examples=FEW_EXAMPLES)
    assert not run.passed
    assert run.failed_checks == {
        "GET /status": {"response_schema_conformance"},
        "GET /unlock/plan": {"status_code_conformance"},
        "POST /unlock": {"response_schema_conformance"},
        "GET /health": {"content_type_conformance"},
        "GET /openapi.json": {"negative_data_rejection"},
        "POST /login": {"not_a_server_error"},
        "GET /ready": {"not_a_server_error"},
    }


ODD_HEADERS = {
    "another host": {"Host": "example.com"},
    "a host that is none": {"Host": "a b/@:x"},
    "a page of another origin": {"Sec-Fetch-Site": "cross-site"},
    "an unknown type": {"Content-Type": "application/x-unknown"},
    "a type that is none": {"Content-Type": ";;=/"},
    "a form without a boundary": {"Content-Type": "multipart/form-data"},
    "another character set": {"Content-Type": "application/json; charset=utf-16"},
    "a length that nothing follows": {"Content-Length": "0", "Content-Type": "application/json"},
    "only HTML is wanted": {"Accept": "text/html"},
    "a part is wanted": {"Range": "bytes=1-2"},
    "another version is wanted": {"If-Match": '"other"'},
    "an id that is none": {"X-Request-ID": "a b"},
}


@pytest.mark.parametrize("odd", ODD_HEADERS)
def test_odd_headers_get_a_described_response(lonely: BareSite, odd: str) -> None:
    for method, path in operations():
        body = (
            b'{"email": "a", "password": "b"}'
            if method == "POST" and "Content-Length" not in ODD_HEADERS[odd]
            else None
        )
        require_described(method, path, call(lonely.url, method, path, body, ODD_HEADERS[odd]))


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("chunks", [b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{", b"zz\r\n", b"-1\r\n"], ids=ascii)
def test_chunked_bodies_get_a_described_response(lonely: BareSite, chunks: bytes, media_type: str) -> None:
    for method, path in operations():
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", "Connection: close"]
        head = "\r\n".join([*lines, f"Content-Type: {media_type}", "", ""]).encode()
        require_described(method, path, parse_reply(send_and_close(lonely.url, head + chunks)))


@pytest.mark.parametrize("method", ["TRACE", "QUERY", "PROPFIND", "DELETE", "PATCH", "PUT"])
def test_other_methods_are_refused_everywhere(lonely: BareSite, method: str) -> None:
    for _, path in operations():
        call(lonely.url, method, path, b"{}", {"Content-Type": "application/json"}).problem(405, "METHOD_NOT_ALLOWED")
