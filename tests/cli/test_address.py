"""Addresses of a loader: what goes where, and which ones are refused. The proxy is a fake that records."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from loader.cli.address import LoaderAddress
from tests.cli.cli_runs import invoke
from tests.support.faulty_api import Fault, FaultyApi


@pytest.mark.parametrize(
    ("prefix", "sent"),
    [
        ("", "/lock"),
        ("/", "/lock"),
        ("/device-7", "/device-7/lock"),
        ("/a/b//", "/a/b/lock"),
        ("/a b/%2f/ü", "/a%20b/%2f/%C3%BC/lock"),
    ],
)
def test_the_path_of_the_address_stands_before_each_path(prefix: str, sent: str) -> None:
    with FaultyApi() as proxy:
        proxy.answer("POST", sent, Fault(body=b"{}"))
        assert invoke(proxy.url + prefix, "lock").exit_code == 0
        assert [seen.path for seen in proxy.requests()] == [sent]


@pytest.mark.parametrize(
    ("written", "credentials"),
    [("op:secret", "op:secret"), ("op%40x:p%3Aq%2f", "op@x:p:q/"), ("op", "op:"), ("op:", "op:"), ("é:ü@x", "é:ü@x")],
)
def test_credentials_are_sent_and_never_printed(written: str, credentials: str) -> None:
    with FaultyApi() as proxy:
        address = proxy.url.replace("://", f"://{written}@")
        proxy.answer("POST", "/lock", Fault(body=b"{}"))
        proxy.answer("GET", "/cache", Fault(401, body=b"<html>"))
        assert invoke(address, "lock").exit_code == 0
        expected = "Basic " + base64.b64encode(credentials.encode()).decode()
        assert proxy.requests()[0].headers["authorization"] == expected
        refused = invoke(address, "cache", "list")
    gone = invoke(address, "lock")
    assert (refused.exit_code, gone.exit_code) == (3, 3)
    for done in (refused, gone):
        assert proxy.url in done.stderr
        assert written not in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "localhost:8080", "loader.example", "[::1]:8080", "/run/x.sock"])
def test_an_address_without_a_scheme_is_told_so(address: str) -> None:
    done = invoke(address, "status")
    assert done.exit_code == 2
    assert "has no scheme" in done.stderr
    assert "http://host:port, https://host:port or unix:/path" in " ".join(done.stderr.split())
    assert "Start the loader" not in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        *("", "http://", "https://", "http://x:y", "http://x:0", "http://x:65536", "http://[::1", "ftp://x", "http:/x"),
        *("http://x/?query", "http://x/#fragment", "http://:8080"),
    ],
)
def test_other_addresses_are_wrong_usage(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        LoaderAddress(address)


@pytest.mark.parametrize("address", ["http://u:planted@x:y", "ftp://u:planted@x", "u:planted@x:80"])
def test_a_refused_address_does_not_show_its_password(address: str) -> None:
    done = invoke(address, "status")
    assert done.exit_code == 2
    assert "planted" not in done.output


@pytest.mark.parametrize("host", ["a" * 64, "nothing.invalid", "ü" * 70, "a..b", "%zz"])
def test_a_host_that_does_not_exist_is_unreachable(host: str) -> None:
    done = invoke(f"http://{host}:8080", "status")
    assert done.exit_code == 3, done.exception
    assert f"No loader responds at http://{host}:8080: " in done.stderr


def test_a_file_without_certificates_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for ca in (tmp_path / "ca.pem", tmp_path / "absent", tmp_path):
        done = invoke("https://localhost", "status", "--ca", str(ca))
        assert done.exit_code == 2
        assert "--ca" in done.stderr
