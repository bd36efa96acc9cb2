"""Servers that are not reached, break off, or are of another kind: the error says where and why, and its hint fits.

The counterparts are real: closed ports, names that do not resolve, networks without a route, a queue that is full.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.api_client.reasons import Start, assert_says, failure_at
from tests.support.breakable_api import closed, reset, says, silent
from tests.support.certificates import Authority
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing

SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
IN_ANOTHER_NETWORK = """
import json, sys
from loader.api_client.client import ApiClient
from loader.errors import ApiUnreachable
try:
    ApiClient(sys.argv[1], ca_bundle=None, timeouts=(5, 5)).login("e", "p")
except ApiUnreachable as exc:
    print(json.dumps([str(exc), exc.hint]))
"""


def test_a_name_that_does_not_resolve_hints_at_dns() -> None:
    error = failure_at("https://api.nowhere.invalid")
    reason = "its name could not be resolved: (Name or service not known|Temporary failure in name resolution)"
    assert_says(error, "api.nowhere.invalid port 443", reason, "DNS server .* RESOURCE_API_URL")


@pytest.mark.parametrize("name", ["api..example", f"{'a' * 64}.example"])
def test_a_name_that_cannot_be_one_hints_at_the_setting(name: str) -> None:
    assert_says(failure_at(f"http://{name}:81"), f"{name} port 81", "its name is not a host name", "RESOURCE_API_URL")


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]")])
def test_a_closed_port_hints_at_the_server(host: str, shown: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host.strip("[]"), 0))
            port = probe.getsockname()[1]
    except OSError:
        missing("IPv6", "this kernel has none")
    error = failure_at(f"http://{host}:{port}")
    assert_says(error, f"{shown} port {port}", "Connection refused", "server runs .* firewall refuses")


def test_a_connection_that_nobody_accepts_hints_at_firewall_and_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        address = listener.getsockname()
        for _ in range(2):
            # Linux drops what comes once the queue is full, as a firewall would.
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        error = failure_at(f"http://127.0.0.1:{address[1]}")
    assert_says(error, f"127.0.0.1 port {address[1]}", "no connection in time", "drop the packets.* no proxy")


# A reset that meets the second piece of a request shows as the end of the connection: the HTTP library drops the error.
RESET = "Connection reset by peer|it closed the connection without a response"
BREAKS = {
    "silent": (silent, "it was silent for too long", "overloaded .* API_READ_TIMEOUT"),
    "reset": (reset, RESET, "firewall or a proxy .* cuts connections"),
    "closed": (closed, "it closed the connection without a response|TLS failed: .*eof .*", "cuts connections"),
}


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_breaks_off_before_a_response(start: Start, scheme: str, kind: str) -> None:
    behaviour, reason, hint = BREAKS[kind]
    port = start(behaviour)
    error = failure_at(f"{scheme}://localhost:{port}")
    assert_says(error, f"localhost port {port}", reason, hint)
    # What expects TLS breaks off as well when it gets plain HTTP.
    assert ("Write https in RESOURCE_API_URL" in error.hint) == (scheme == "http" and kind != "silent")


@pytest.mark.parametrize(
    "message",
    [SSH, TLS_ALERT, HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", HEAD + b"X: y\r\n" * 200],
    ids=["ssh", "an alert of TLS", "a header without end", "headers without end"],
)
def test_a_server_of_another_kind_hints_at_the_scheme(start: Start, message: bytes) -> None:
    port = start(says(message))
    error = failure_at(f"http://localhost:{port}")
    assert_says(error, f"localhost port {port}", "its response is not HTTP", "another kind .* Write https")


@pytest.mark.parametrize(
    "message", [b"SSH-2.0-OpenSSH_9.2\r\n", HEAD + b"Content-Length: 0\r\n\r\n"], ids=["ssh", "http"]
)
def test_a_server_without_tls_hints_at_the_scheme(start: Start, authority: Authority, message: bytes) -> None:
    port = start(says(message))
    error = failure_at(f"https://localhost:{port}", authority)
    assert_says(error, f"localhost port {port}", "TLS failed: .*(version|record).*", "scheme .* does not speak TLS")


NETWORKS = {
    "without any route": ("true", "Network is unreachable", "link, its address and its routes"),
    "without a route to that host": (
        "ip route add unreachable 192.0.2.0/24",
        "No route to host",
        "link, its address and its routes",
    ),
    "that forbids it": ("ip route add prohibit 192.0.2.0/24", "Permission denied", "firewall of this device permit"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_device_without_a_way_hints_at_its_network(kind: str) -> None:
    command, reason, hint = NETWORKS[kind]
    shell = f'ip link set lo up && {command} && exec "$0" -c "$1" http://192.0.2.1:8000'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", shell, sys.executable, IN_ANOTHER_NETWORK],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr:
        missing("network namespace", done.stderr.strip())
    sentence, advice = json.loads(done.stdout)
    assert sentence == f"The resource API at 192.0.2.1 port 8000 could not be reached: {reason}."
    assert hint in advice
