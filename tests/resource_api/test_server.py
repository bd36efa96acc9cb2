"""The server as a whole: its memory, errors, logs and start."""

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.resource_api.conftest import EMAIL, PASSWORD, Api
from tests.support.loader_server import run_python
from tests.support.processes import poll
from tests.support.procfs import peak_rss_bytes

MIB = 1 << 20
OBJECT_BYTES = 300 * MIB
ENDED_SECONDS = 20


def drop_download(port: int, headers: dict[str, str]) -> tuple[int, int]:
    """Download the large object without keeping it; return its Content-Length and the number of bytes received."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/resources/large", headers=headers)
    with connection.getresponse() as response:
        received = 0
        while piece := response.read(MIB):
            received += len(piece)
    connection.close()
    return int(response.headers["Content-Length"]), received


def test_memory_does_not_grow_with_the_size_of_an_object(data: DataDirectory) -> None:
    def zeros() -> Iterator[bytes]:
        for _ in range(OBJECT_BYTES // MIB):
            yield bytes(MIB)

    with Api(data) as api:
        bearer = api.bearer()
        before = peak_rss_bytes(api.worker())
        put = api.call("PUT", "/resources/large", {**bearer, "Content-Length": str(OBJECT_BYTES)}, zeros())
        assert put.status == 201
        for headers in (bearer, {**bearer, "Range": f"bytes={MIB}-"}):
            announced, received = drop_download(api.port, headers)
            assert received == announced == OBJECT_BYTES - (MIB if "Range" in headers else 0)
        assert peak_rss_bytes(api.worker()) < before + 32 * MIB


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/login/", 404),
        ("GET", "/resources/", 404),
        ("GET", "/login", 405),
        ("POST", "/resources/a", 405),
        ("DELETE", "/resources", 405),
        ("BREW", "/login", 405),
    ],
)
def test_unknown_paths_and_methods_are_problems(api: Api, method: str, path: str, status: int) -> None:
    reply = api.call(method, path)
    assert reply.status == status
    assert (reply.headers["Allow"] is not None) == (status == 405)
    reply.problem()


def test_an_internal_error_is_a_problem_that_does_not_reveal_its_cause(data: DataDirectory) -> None:
    with Api(data) as api:
        users = data.users_file.read_bytes()
        data.users_file.write_bytes(b"{ damaged")
        reply = api.login()
        assert reply.status == 500
        assert str(data.root) not in str(reply.problem())
        data.users_file.write_bytes(users)
        assert api.login().status == 200
    assert "damaged" not in str(reply)
    assert "is damaged" in api.process.stderr()


def test_the_log_has_one_line_per_request_and_no_secrets(data: DataDirectory) -> None:
    fragment = b"fragment-" * 8
    Fragments(data).set(fragment)
    with Api(data) as api:
        bearer = api.bearer()
        api.login(EMAIL, "not the password")
        api.call("GET", "/binary-split/key-fragment", bearer)
        api.call("GET", "/resources/a%0d%0aforged", bearer)
        api.call("GET", "/binary-split/key-fragment", {"Authorization": "Bearer forged-token"})
    log = api.process.stderr()
    lines = [json.loads(line) for line in log.splitlines()]
    audits = [line for line in lines if line["logger"] == "resource_api.audit" and line["object"] != "/"]
    # Each request has a connection of its own, whose line may be written after that of the next one.
    assert sorted((line["event"], line["user"] or "", line["outcome"]) for line in audits) == [
        ("fragment", "", "refused"),
        ("fragment", EMAIL, "done"),
        ("login", EMAIL, "done"),
        ("login", EMAIL, "refused"),
        ("other", "", "refused"),
    ]
    assert [line["object"] for line in audits if line["event"] == "other"] == ["/resources/a\r\nforged"]
    token = bearer["Authorization"].removeprefix("Bearer ")
    for secret in (PASSWORD, "not the password", token, "forged-token", "fragment-fragment", fragment.hex()):
        assert secret not in log


def test_a_silent_connection_does_not_block_other_requests(api: Api, bearer: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as silent:
        silent.sendall(f"PUT /resources/a HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer['Authorization']}\r\n".encode())
        silent.sendall(b"Content-Length: 10\r\n\r\n12345")
        poll(lambda: any(name.startswith("tmp/") for name in api.stored()), 10, "the upload starts")
        assert api.call("GET", "/resources/none", bearer).status == 404
    poll(lambda: api.stored() == {}, 10, "the upload is dropped")


def test_the_server_stops_at_sigterm_and_has_no_control_socket(data: DataDirectory) -> None:
    with Api(data) as api:
        assert api.login().status == 200  # a control socket would exist by now
        assert {path.name for path in data.root.parent.iterdir()} == {
            *("data", "resource_api.stdout", "resource_api.stderr")
        }
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(ENDED_SECONDS) == 0


def run_api(data: DataDirectory, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start an API that is expected to end by itself."""
    bind = ("--bind", f"unix:{data.root.parent}/socket")
    return run_python(data.root.parent, "-m", "gunicorn", *arguments, *bind, "resource_api.wsgi:app", **env)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "RESOURCE_API_DATA must name the data directory"),
        ({"RESOURCE_API_DATA": "/nonexistent"}, "not a usable data directory: /nonexistent/users.json"),
        ({"RESOURCE_API_DATA": "DATA", "RESOURCE_API_TOKEN_SECONDS": "0"}, "must be a positive whole number, not '0'"),
        (
            {"RESOURCE_API_DATA": "DATA", "RESOURCE_API_TOKEN_SECONDS": "1h"},
            "must be a positive whole number, not '1h'",
        ),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(
    data: DataDirectory, environment: dict[str, str], sentence: str
) -> None:
    values = {name: value.replace("DATA", str(data.root)) for name, value in environment.items()}
    done = run_api(data, "--config", "python:resource_api.gunicorn_conf", **values)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


def test_gunicorn_does_not_restart_a_worker_that_cannot_start(data: DataDirectory) -> None:
    done = run_api(data, "--no-control-socket", "--config", os.devnull)
    assert done.returncode == 3
    assert done.stderr.count("RESOURCE_API_DATA must name the data directory") == 1
