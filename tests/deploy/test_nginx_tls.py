"""deploy/nginx.conf after the command in its head that turns TLS on."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.cli_runs import invoke
from tests.deploy.conftest import Fronted
from tests.deploy.nginx_checks import checked, tls_variant
from tests.support.http_calls import ANSWER_SECONDS, BOUNDARY, call, form, part
from tests.support.missing import missing
from tests.support.nginx_server import CONFIGURATION, HOST_NAME, NginxServer, adapted, nginx

CHAIN = "/etc/azaion-loader/tls/fullchain.pem"
KEY = "/etc/azaion-loader/tls/key.pem"
CONTENT = bytes(range(251)) * 20_000
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


LOCATION = """        location / {
            proxy_pass http://loader;
"""
# A proxy for many devices, each below a path, which asks for a password.
BELOW_A_PATH = """        location /device-7/ {
            auth_basic devices;
            auth_basic_user_file PASSWORDS;
            client_max_body_size 0;
            proxy_pass http://loader/;
"""


@dataclass(frozen=True)
class Encrypted:
    """nginx with TLS, and a context that trusts its certificate."""

    front: NginxServer
    context: ssl.SSLContext

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send a request, and return status and body."""
        address = HOST_NAME, self.front.port
        connection = http.client.HTTPSConnection(*address, timeout=ANSWER_SECONDS, context=self.context)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate for HOST_NAME, as changes of the configuration."""
    directory = tmp_path_factory.mktemp("tls")
    key, chain = directory / "key.pem", directory / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST_NAME}"]
    extension = ["-addext", f"subjectAltName=DNS:{HOST_NAME}", "-keyout", str(key), "-out", str(chain)]
    try:
        subprocess.run([*command, *extension], check=True, capture_output=True)
    except FileNotFoundError:
        missing("openssl", "the program is not installed")
    return {CHAIN: str(chain), KEY: str(key)}


@pytest.fixture(scope="module")
def encrypted(
    tmp_path_factory: pytest.TempPathFactory, site: Fronted, certificate: dict[str, str]
) -> Iterator[Encrypted]:
    """nginx with TLS in front of a loader that is logged in."""
    text = tls_variant(CONFIGURATION.read_text())
    with nginx(tmp_path_factory.mktemp("encrypted") / "nginx", site.upstream, certificate, text) as front:
        yield Encrypted(front, ssl.create_default_context(cafile=certificate[CHAIN]))


def test_nginx_accepts_the_configuration(tmp_path: Path, certificate: dict[str, str]) -> None:
    done = checked(tmp_path, adapted(tls_variant(CONFIGURATION.read_text()), certificate))
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_a_model_is_uploaded_and_loaded(encrypted: Encrypted) -> None:
    body = form(part("folder", b"tls"), part("file", CONTENT, filename="x"))
    assert encrypted.call("POST", "/upload/x", body, **FORM)[0] == 200
    wanted = json.dumps({"filename": "x", "folder": "tls"}).encode()
    assert encrypted.call("POST", "/load/x", wanted, **JSON) == (200, CONTENT)


def test_pages_of_its_own_name_may_post(encrypted: Encrypted) -> None:
    assert encrypted.call("POST", "/login", b"{}", **JSON, Origin=f"https://{HOST_NAME}")[0] == 422
    assert encrypted.call("POST", "/login", b"{}", **JSON, Origin="https://other.example")[0] == 403


def test_other_names_get_the_probe_only(encrypted: Encrypted) -> None:
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        encrypted.call("GET", "/status", Host="other.example")
    assert encrypted.call("GET", "/health", Host="192.0.2.7")[0] == 200


def test_plain_http_is_refused(encrypted: Encrypted) -> None:
    assert call(encrypted.front.url, "GET", "/health").status == 400


@pytest.mark.parametrize(("version", "spoken"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_old_tls_is_refused(encrypted: Encrypted, version: str, *, spoken: bool) -> None:
    address = f"127.0.0.1:{encrypted.front.port}"
    command = ["openssl", "s_client", "-connect", address, version, "-cipher", "ALL@SECLEVEL=0"]
    shown = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    assert ("BEGIN CERTIFICATE" in shown.stdout) is spoken


def test_the_commands_speak_tls(encrypted: Encrypted, certificate: dict[str, str], tmp_path: Path) -> None:
    url, ca = f"https://{HOST_NAME}:{encrypted.front.port}", ("--ca", certificate[CHAIN])
    # Of many pieces, because the session tickets of TLS 1.3 arrive during the first ones and are no response.
    (tmp_path / "model").write_bytes(CONTENT * 4)
    done = invoke(url, "upload", str(tmp_path / "model"), "cli", *ca)
    assert done.exit_code == 0, done.stderr
    done = invoke(url, "load", "cli/model", "-o", str(tmp_path / "copy"), *ca)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == CONTENT * 4
    refused = invoke(url, "upload", str(tmp_path / "model"), "..", *ca)
    assert (refused.exit_code, "(VALIDATION_FAILED)" in refused.stderr) == (4, True), refused.stderr


def test_the_commands_refuse_a_certificate_that_they_do_not_know(
    encrypted: Encrypted, certificate: dict[str, str]
) -> None:
    port = encrypted.front.port
    ca = ("--ca", certificate[CHAIN])
    for url, words, options in (
        (f"https://{HOST_NAME}:{port}", "self-signed certificate", ()),
        (f"https://127.0.0.1:{port}", "IP address mismatch", ca),
        (f"http://{HOST_NAME}:{port}", "not a loader", ()),
    ):
        done = invoke(url, "status", *options)
        assert done.exit_code == 3
        assert words in done.stderr
        assert ("--ca" in done.stderr) is url.startswith("https")


def test_a_refused_upload_ends_before_its_body_is_sent(
    lonely: Fronted, certificate: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(bytes(64 << 20))
    text = tls_variant(CONFIGURATION.read_text())
    with nginx(tmp_path / "nginx", lonely.upstream, certificate, text) as front:
        url = f"https://{HOST_NAME}:{front.port}"
        done = invoke(url, "upload", str(tmp_path / "model"), "day", "--ca", certificate[CHAIN])
    assert (done.exit_code, "(NOT_LOGGED_IN)" in done.stderr) == (5, True), done.stderr


def test_the_commands_use_the_path_and_the_credentials_of_the_address(site: Fronted, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("op@x:{PLAIN}sec@ret\n")
    (tmp_path / "model").write_bytes(CONTENT)
    changes = {LOCATION: BELOW_A_PATH.replace("PASSWORDS", str(passwords))}
    with nginx(tmp_path / "nginx", site.upstream, changes) as front:
        host = f"{HOST_NAME}:{front.port}"
        done = invoke(f"http://op%40x:sec%40ret@{host}/device-7/", "upload", str(tmp_path / "model"), "path")
        assert done.exit_code == 0, done.stderr
        assert invoke(f"http://{host}/device-7", "status").exit_code == 3


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    """A directory with two self-signed certificates of clients and their keys: `known` and `other`."""
    for name in ("known", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*command, *files], check=True, capture_output=True)
    return tmp_path


def test_the_block_for_client_certificates_lets_nobody_else_in(
    lonely: Fronted, certificate: dict[str, str], clients: Path
) -> None:
    text = tls_variant(CONFIGURATION.read_text()).replace("#mtls ", "")
    changes = {**certificate, "/etc/azaion-loader/tls/clients.pem": str(clients / "known.pem")}
    with nginx(clients / "nginx", lonely.upstream, changes, text) as front:
        answers = {}
        for name in ("known", "other", ""):
            context = ssl.create_default_context(cafile=certificate[CHAIN])
            if name:
                context.load_cert_chain(clients / f"{name}.pem", clients / f"{name}.key")
            answers[name] = Encrypted(front, context).call("GET", "/status")[0]
        assert answers == {"known": 200, "other": 400, "": 400}
        # Without the name in the handshake, the other server has answered it, and still nobody gets in.
        nameless = ssl.create_default_context()
        nameless.check_hostname, nameless.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", front.port, timeout=ANSWER_SECONDS, context=nameless)
        for host, path, status in ((HOST_NAME, "/status", 400), ("192.0.2.7", "/health", 200)):
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            connection.close()
