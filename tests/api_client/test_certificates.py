"""Certificates of a private authority: what they may lack before Python 3.13, and how to make them complete."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from loader.api_client import connections
from loader.api_client.client import ApiClient
from loader.api_client.reasons import CertificateUnfit
from loader.errors import ApiUnreachable
from loader.patience import Patience
from tests.api_client.conftest import TIMEOUTS
from tests.api_client.reasons import assert_says, failure_at
from tests.support.breakable_api import BreakableApi
from tests.support.certificates import AUTHORITY, SERVER, Authority, Certificate
from tests.support.http_calls import EMAIL, PASSWORD

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
HINT = r'docs/operations\.md .* "A private authority"'
# What the certificate of the authority has, what that of the server has, and the words of OpenSSL.
LACKING = {
    "keyUsage of the authority": (
        ("basicConstraints=critical,CA:true", "subjectKeyIdentifier=hash"),
        SERVER,
        "CA cert does not include key usage extension",
    ),
    "critical of basicConstraints": (
        ("basicConstraints=CA:true", *AUTHORITY[1:]),
        SERVER,
        "Basic Constraints of CA cert not marked critical",
    ),
    "right of the authority to sign": (
        ("basicConstraints=critical,CA:false", *AUTHORITY[1:]),
        SERVER,
        "invalid CA certificate",
    ),
    "authorityKeyIdentifier of the server": (
        AUTHORITY,
        (*SERVER[:2], "authorityKeyIdentifier=none"),
        "Missing Authority Key Identifier",
    ),
}


def strict_context(make: Callable[[str | None], ssl.SSLContext], bundle: str | None) -> ssl.SSLContext:
    context = make(bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture
def as_python_313(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify certificates as Python 3.13 and later do."""
    monkeypatch.setattr("loader.api_client.transport.tls_context", partial(strict_context, connections.tls_context))


@pytest.mark.usefixtures("as_python_313")
@pytest.mark.parametrize("what", LACKING)
def test_error_says_what_a_certificate_lacks_and_that_it_stays_so(what: str, tmp_path: Path) -> None:
    of_authority, of_server, words = LACKING[what]
    authority = Authority(tmp_path, of_authority)
    with BreakableApi(authority.sign("api", extensions=of_server).server_context()) as api:
        error = failure_at(api.url, authority)
        client = ApiClient(api.url, ca_bundle=str(authority.path), timeouts=TIMEOUTS)
        with pytest.raises(ApiUnreachable):
            client.login(EMAIL, PASSWORD)
    assert_says(error, f"localhost port {api.port}", f"its certificate could not be verified: {words}", HINT)
    # The last one is what `/ready` tells.
    for failure in (error, client.failure):
        assert failure is not None
        assert (type(failure), failure.code, failure.retryable) == (CertificateUnfit, "API_UNREACHABLE", False)
        assert Patience(3600).wait_after(failure) is None
    assert api.requests() == []


@pytest.mark.usefixtures("as_python_313")
def test_documented_commands_make_certificates_that_pass(tmp_path: Path) -> None:
    done = run("\n".join(documented_commands()).replace("api.example.com", "localhost"), tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["api.pem: OK"]), done.stderr
    made = Certificate(tmp_path / "api.pem", tmp_path / "api.key")
    with BreakableApi(made.server_context()) as api:
        ApiClient(api.url, ca_bundle=str(tmp_path / "ca.pem"), timeouts=TIMEOUTS).login(EMAIL, PASSWORD)


def test_documented_check_refuses_what_python_313_refuses(tmp_path: Path) -> None:
    Authority(tmp_path, LACKING["keyUsage of the authority"][0]).sign("api")
    done = run(documented_commands()[-1], tmp_path)
    assert done.returncode != 0
    assert "CA cert does not include key usage extension" in done.stderr


def documented_commands() -> list[str]:
    """Return the commands of docs/operations.md, of which the last one is the check."""
    section = DOCUMENT.read_text().partition("\n### A private authority\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(block).replace("\\\n", "").splitlines()


def run(commands: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-euc", commands], cwd=directory, capture_output=True, text=True, check=False)


def test_python_decides_what_is_demanded() -> None:
    """A device whose certificates pass today must not lose its API through an update of the loader alone."""
    is_strict = bool(connections.tls_context(None).verify_flags & ssl.VERIFY_X509_STRICT)
    assert is_strict is (sys.version_info >= (3, 13))
