"""DOCKER_HOST and the variables beside it, in nonsense: an error says which address and why, and hides the secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.docker_engine.address import shown_address
from loader.docker_engine.reasons import SETTINGS_HINT
from loader.errors import EngineUnavailable
from tests.support.http_calls import EMAIL, PASSWORD, post_json
from tests.support.loader_server import run_loader
from tests.support.sites import bare_site

pytestmark = [
    pytest.mark.usefixtures("collected", "bare"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
pytest_plugins = ("tests.support.unlock_fixtures",)

LONGEST_ERROR = 900
SECRET = "planted-secret"

# By DOCKER_HOST: what the message says of the address, and the reason.
UNUSABLE = {
    "tcp://127.0.0.1:notaport": ("tcp://127.0.0.1:notaport", "Port could not be cast to integer"),
    "tcp://127.0.0.1:99999": ("tcp://127.0.0.1:99999", "Port out of range"),
    "tcp://127.0.0.1:-1": ("tcp://127.0.0.1:-1", "Port could not be cast"),
    "tcp://127.0.0.1:9\nfoo": ("tcp://127.0.0.1:9 foo", "Port could not be cast"),
    "tcp://127.0.0.1": ("tcp://127.0.0.1", "port is required"),
    "tcp://": ("tcp://", "Invalid bind address format"),
    "tcp://[::1": ("tcp://[::1", "Invalid IPv6 URL"),
    "nonsense://x": ("nonsense://x", "Invalid bind address protocol"),
    "x.sock": ("x.sock", "port is required"),
    "   ": ("unix:///var/run/docker.sock", "Invalid bind address format"),
    "fd://": ("fd://", "fd protocol is not implemented"),
    "npipe:////./pipe/docker": ("npipe:////./pipe/docker", "only supported on Windows"),
    "ssh://device": ("ssh://device", "Install paramiko package"),
    f"ssh://root:{SECRET}@device": ("ssh://device", "Invalid bind address format: ssh://device"),
    f"tcp://root:{SECRET}@device:9": ("tcp://device:9", "Invalid bind address format: tcp://device:9"),
    f"tcp://root:x/{SECRET}@device:9": ("tcp://device:9", "Port could not be cast"),
    f"tcp://root:{SECRET}/x@device:9": ("tcp://device:9", "the address is malformed"),
    f"root:{SECRET}@device:9": ("device:9", "Invalid bind address"),
    f"tcp://device:9?key={SECRET}": ("tcp://device:9", "Invalid bind address format"),
    f"tcp://device:9#{SECRET}": ("tcp://device:9", "Invalid bind address format"),
}
UNREACHABLE = {
    "unix:///nonexistent/docker.sock": ("unix:///nonexistent/docker.sock", "No such file or directory"),
    "unix://relative/docker.sock": ("unix://relative/docker.sock", "No such file or directory"),
    "unix:///run/user@1000/absent.sock": ("unix:///run/user@1000/absent.sock", "No such file or directory"),
    "unix:///" + "a" * 300: ("unix:///" + "a" * 188 + " ...", "AF_UNIX path too long"),
    "unix:///dev/null": ("unix:///dev/null", "Connection refused"),
    "unix:///dev/null/docker.sock": ("unix:///dev/null/docker.sock", "Not a directory"),
    "tcp://127.0.0.1:9": ("tcp://127.0.0.1:9", "Connection refused"),
    "127.0.0.1:9": ("127.0.0.1:9", "Connection refused"),
    "https://127.0.0.1:9": ("https://127.0.0.1:9", "Connection refused"),
    f"tcp://{SECRET}@127.0.0.1:9": ("tcp://127.0.0.1:9", "Connection refused"),
    f"tcp://{SECRET}@a b:9": ("tcp://a b:9", "Failed to parse: Host 'a b'"),
    "tcp://*:9": ("tcp://*:9", "URL has an invalid label"),
    f"tcp://{'a' * 70}:9": (f"tcp://{'a' * 70}:9", "label empty or too long"),
}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without any variable or configuration file of Docker."""
    for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def failure() -> EngineUnavailable:
    """Return the error of an engine that cannot be used, which is one short line without a secret."""
    with pytest.raises(EngineUnavailable) as caught:
        DockerEngine(1).find("app:1")
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < LONGEST_ERROR
    assert SECRET not in text + caught.value.hint
    return caught.value


@pytest.mark.parametrize("host", UNUSABLE, ids=repr)
def test_an_unusable_docker_host_is_told_with_its_reason(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    address, reason = UNUSABLE[host]
    error = failure()
    assert str(error).startswith(f"The settings of the Docker engine at {address} cannot be used: ")
    assert reason in str(error)
    assert error.hint == SETTINGS_HINT
    with pytest.raises(EngineUnavailable, match="cannot be used"):
        DockerEngine(1).check_settings()


@pytest.mark.parametrize("host", UNREACHABLE, ids=repr)
def test_an_engine_that_is_not_reached_is_told_with_the_reason(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    address, reason = UNREACHABLE[host]
    text = str(failure())
    assert text.startswith(f"The Docker engine at {address} does not respond: ")
    assert reason in text
    DockerEngine(1).check_settings()


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
def test_an_absent_certificate_is_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for other in {"cert.pem", "key.pem", "ca.pem"} - {name}:
        (tmp_path / other).write_text("not read yet")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    assert f"cannot be used: {tmp_path / name}: No such file or directory." in str(failure())


def test_certificates_are_looked_for_in_the_home_without_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    assert f"{tmp_path}/.docker/cert.pem: No such file or directory" in str(failure())


def test_tls_that_is_switched_off_by_an_empty_value_needs_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "")
    monkeypatch.setenv("DOCKER_CERT_PATH", "")
    assert "Connection refused" in str(failure())


NOT_A_CONFIGURATION = [[], 5, {"proxies": 5}, {"auths": 5}, {"HttpHeaders": 5}, {"proxies": {"default": 5}}]


@pytest.mark.parametrize("document", NOT_A_CONFIGURATION, ids=repr)
def test_nonsense_in_the_configuration_file_of_docker_is_told(
    document: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    error = failure()
    assert "config.json in DOCKER_CONFIG, or in ~/.docker, has not the form" in str(error)
    assert error.hint == SETTINGS_HINT


def test_an_address_is_shown_in_one_short_line_without_secrets() -> None:
    assert shown_address({}) == "unix:///var/run/docker.sock"
    assert shown_address({"DOCKER_HOST": f"tcp://a:{SECRET}@b@c:1/p?q={SECRET}#f"}) == "tcp://c:1/p"
    assert shown_address({"DOCKER_HOST": f"unix://a:{SECRET}@b/c@d"}) == "unix://b/c@d"
    assert shown_address({"DOCKER_HOST": "tcp://\udcff\x1b[31m:9"}) == "tcp:// [31m:9"
    assert len(shown_address({"DOCKER_HOST": "tcp://" + "x" * 9999})) <= 200


def test_the_loader_starts_and_tells_that_docker_host_is_nonsense(tmp_path: Path) -> None:
    told = "The settings of the Docker engine at tcp://127.0.0.1:notaport cannot be used: "
    with bare_site(tmp_path / "site", DOCKER_HOST="tcp://127.0.0.1:notaport", EXPECTED_IMAGES="app:1") as site:
        (line,) = [line for line in site.loader.log_lines() if line["logger"] == "loader.app"]
        assert line["message"].startswith(told)
        reply = post_json(site.url, "/unlock", {"email": EMAIL, "password": PASSWORD})
        problem = reply.problem(503, "ENGINE_UNAVAILABLE")
        assert problem["detail"].startswith(told)
    checked = run_loader(
        tmp_path, "serve", "--check-config", DOCKER_HOST="tcp://127.0.0.1:notaport", **writable(tmp_path)
    )
    assert checked.returncode == 0
    assert told in checked.stderr


def writable(directory: Path) -> dict[str, str]:
    return {"IMAGES_PATH": f"{directory}/images.enc", "MODEL_CACHE_DIR": f"{directory}/models"}
