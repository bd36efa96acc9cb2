"""What TLS refuses: the error says where and why, and its hint fits. The certificates are real."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.errors import ApiError
from tests.api_client.reasons import Start, assert_says, failure_at
from tests.support.breakable_api import BreakableApi, with_tls
from tests.support.certificates import Authority
from tests.support.faulty_api import Fault
from tests.support.nginx_server import require_nginx
from tests.support.processes import ManagedProcess, clean_env, free_port


def old_tls(authority: Authority) -> ssl.SSLContext:
    context = authority.sign("old").server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def asking_for_a_certificate(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = authority.sign("asking").server_context()
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    return context


def weak_key(authority: Authority) -> ssl.SSLContext:
    made = authority.sign("weak", new_key=["-newkey", "rsa:1024", "-nodes"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(made.certificate, made.key)
    return context


UNVERIFIED = "its certificate could not be verified: "
CLOCK = r"clock of this device if it is wrong: it says {} \d\d:\d\d:\d\d UTC"
CONTEXTS: dict[str, tuple[Callable[[Authority, Authority], ssl.SSLContext], str, str]] = {
    "not yet valid": (
        lambda known, _: known.not_yet_valid("future").server_context(),
        f"{UNVERIFIED}certificate is not yet valid( or the system clock is incorrect)?",
        CLOCK,
    ),
    "expired": (
        lambda known, _: known.expired("expired").server_context(),
        f"{UNVERIFIED}certificate has expired( or the system clock is incorrect)?",
        CLOCK,
    ),
    "for another host": (
        lambda known, _: known.sign("other", host="api.example").server_context(),
        f"{UNVERIFIED}Hostname mismatch, .*",
        "name of the certificate in RESOURCE_API_URL",
    ),
    "of an unknown authority": (
        lambda _, other: other.sign("strange").server_context(),
        f"{UNVERIFIED}unable to get local issuer certificate",
        "RESOURCE_API_CA_BUNDLE .* inspects TLS",
    ),
    "self-signed": (
        lambda known, _: known.self_signed("self").server_context(),
        f"{UNVERIFIED}self-signed certificate",
        "RESOURCE_API_CA_BUNDLE",
    ),
    "with a weak key": (
        lambda known, _: weak_key(known),
        f"{UNVERIFIED}EE certificate key too weak",
        "a certificate that this device can verify",
    ),
    "TLS 1.1": (lambda known, _: old_tls(known), r"it does not speak TLS 1\.2 or later: .*", r"speak TLS 1\.2"),
    "client certificate": (
        lambda known, _: asking_for_a_certificate(known, ssl.TLSVersion.TLSv1_3),
        "TLS failed: .*",
        "certificate of the client",
    ),
    "client certificate, TLS 1.2": (
        lambda known, _: asking_for_a_certificate(known, ssl.TLSVersion.TLSv1_2),
        "TLS failed: .*handshake failure",
        "certificate of the client",
    ),
}


@pytest.mark.parametrize("kind", CONTEXTS)
def test_what_tls_refuses_hints_at_its_cause(
    start: Start, authority: Authority, stranger: Authority, kind: str
) -> None:
    make, reason, hint = CONTEXTS[kind]
    port = start(with_tls(make(authority, stranger)))
    error = failure_at(f"https://localhost:{port}", authority)
    assert_says(error, f"localhost port {port}", reason, hint.format(time.strftime("%Y-%m-%d", time.gmtime())))


@pytest.fixture
def plain_nginx(tmp_path: Path, authority: Authority) -> Iterator[tuple[int, int]]:
    """A real nginx: a port with TLS and one without."""
    require_nginx()
    ports, made = (free_port(), free_port()), authority.sign("nginx")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error; events {{}} http {{ access_log off; server {{"
        f" listen 127.0.0.1:{ports[0]} ssl; listen 127.0.0.1:{ports[1]};"
        f" ssl_certificate {made.certificate}; ssl_certificate_key {made.key}; return 204; }} }}"
    )
    command = ["nginx", "-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf", "-g", "daemon off;"]
    with ManagedProcess("nginx", command, tmp_path, env=clean_env(tmp_path)) as process:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", ports[1])) == 0

        process.wait_until(listens, 10, "nginx listens")
        yield ports


def test_nginx_with_the_wrong_scheme_hints_at_the_scheme(plain_nginx: tuple[int, int], authority: Authority) -> None:
    secure, plain = plain_nginx
    error = failure_at(f"https://localhost:{plain}", authority)
    assert_says(error, f"localhost port {plain}", "TLS failed: .*", "does not speak TLS")
    refusal = failure_at(f"http://localhost:{secure}")
    assert isinstance(refusal, ApiError)
    assert "400" in str(refusal)
    assert "Write https in RESOURCE_API_URL" in refusal.hint


def test_a_400_over_tls_has_the_hint_of_its_code(authority: Authority) -> None:
    with BreakableApi(authority.sign("right").server_context()) as api:
        api.answer("POST", "/login", Fault(400))
        assert failure_at(api.url, authority).hint == ApiError.hint
        assert "hint" not in vars(failure_at(api.url, authority))
