"""The list of objects: what the resource API sends, and what no resource API sends."""

from __future__ import annotations

import json

import pytest

from loader.api_client import client as client_module
from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiProtocol, ApiUnreachable
from resource_api.accounts import Role
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.resource_api_server import ResourceApiServer

PATH = "/resources"


def test_the_list_has_what_begins_with_the_prefix(resource_api: ResourceApiServer) -> None:
    resource_api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    client = ApiClient(resource_api.url, ca_bundle=None, timeouts=TIMEOUTS)
    client.login(EMAIL, PASSWORD)
    for name in ("images/1.head", "images/a-b.c.blob", "imagesque/x.small"):
        client.put_object(name, name.encode())
    assert client.list_objects("images/") == {"images/1.head": 13, "images/a-b.c.blob": 17}
    assert client.list_objects("images/a-") == {"images/a-b.c.blob": 17}
    assert client.list_objects("nothing/") == {}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"resources": None},
        {"resources": {"name": "x", "size": 1}},
        {"resources": ["x"]},
        {"resources": [{"name": "x"}]},
        {"resources": [{"name": "x", "size": -1}]},
        {"resources": [{"name": "x", "size": True}]},
        {"resources": [{"name": "x", "size": 1.0}]},
        {"resources": [{"name": "x", "size": "1"}]},
        {"resources": [{"name": 1, "size": 1}]},
        {"resources": [{"name": "x", "size": 1}, None]},
    ],
    ids=json.dumps,
)
def test_another_document_is_no_list(api: FaultyApi, client: ApiClient, document: object) -> None:
    api.answer("GET", PATH, Fault(body=json.dumps(document).encode()))
    with pytest.raises(ApiProtocol):
        client.list_objects("images/")


def test_a_list_has_a_limit(api: FaultyApi, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"resources": [{"name": "x", "size": 1}]}'
    api.answer("GET", PATH, Fault(body=body))
    monkeypatch.setattr(client_module, "LIST_MAX_SIZE", len(body))
    assert client.list_objects("images/") == {"x": 1}
    monkeypatch.setattr(client_module, "LIST_MAX_SIZE", len(body) - 1)
    with pytest.raises(ApiProtocol):
        client.list_objects("images/")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(404), ApiError),
        (Fault(503), ApiError),
        (Fault(body=b"<html>", headers={"Content-Type": "text/html"}), ApiUnreachable),
        (Fault(302, headers={"Location": "/elsewhere"}), ApiProtocol),
        (Fault(body=b'{"resources": []}', cut_after=5), ApiUnreachable),
    ],
)
def test_other_responses_are_told_as_for_every_request(
    api: FaultyApi, client: ApiClient, fault: Fault, error: type[Exception]
) -> None:
    api.answer("GET", PATH, fault)
    with pytest.raises(error):
        client.list_objects("images/")
