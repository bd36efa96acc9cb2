"""The settings: defaults, refusals that name every bad value, and the same table in the code and in README.md."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from loader.app import create_app
from loader.crypto.signatures import PEM_START
from loader.crypto.signing_key_file import seal_signing_key
from loader.model_trust import signing_key
from loader.publisher_keys import PublisherKeys
from loader.settings import BAD_SETTINGS_EXIT_CODE, BadSettings, Settings, variables
from tests.support.publishers import ANNA, TRUSTED, write_key, write_publishers

ROOT = Path(__file__).parents[1]


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings.from_env({})
    assert settings.resource_api_url == "https://api.azaion.com"
    assert settings.images_path == Path("/opt/azaion/images.enc")
    assert settings.api_version == "latest"
    assert settings.model_cache_dir == Path("/opt/azaion/models")
    assert settings.bind == "127.0.0.1:8080"
    assert settings.threads == 32
    assert settings.trusted_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (settings.api_connect_timeout, settings.api_read_timeout, settings.engine_timeout) == (5, 60, 1800)


def test_every_field_comes_from_a_variable_of_its_own() -> None:
    names = {variable.name for variable in variables().values()}
    assert len(names) == len(dataclasses.fields(Settings))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("app", "app:1.4"),
        ("app:2", "app:2"),
        ("host:5000/app", "host:5000/app:1.4"),
        ("host:5000/app:2", "host:5000/app:2"),
        ("app@sha256:ab", "app@sha256:ab"),
    ],
)
def test_an_expected_image_without_a_tag_gets_the_version_as_its_tag(name: str, reference: str) -> None:
    settings = Settings.from_env({"EXPECTED_IMAGES": f" {name} ,", "API_VERSION": "1.4"})
    assert settings.expected_references == (reference,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RESOURCE_API_URL", "ftp://api"),
        ("RESOURCE_API_URL", "https://user:secret@api"),
        ("RESOURCE_API_URL", "https://api?token=1"),
        ("RESOURCE_API_URL", ""),
        ("IMAGES_PATH", "images.enc"),
        ("IMAGES_PATH", ""),
        ("API_VERSION", "a b"),
        ("API_VERSION", ""),
        ("MODEL_CACHE_DIR", "models"),
        ("LOADER_BIND", "8080"),
        ("LOADER_BIND", "127.0.0.1:99999"),
        ("LOADER_BIND", "unix:"),
        ("LOADER_THREADS", "0"),
        ("LOADER_THREADS", "many"),
        ("RESOURCE_API_CA_BUNDLE", "/nonexistent.pem"),
        ("RESOURCE_API_CA_BUNDLE", "/"),
        ("RESOURCE_API_CA_BUNDLE", __file__),
        ("PUBLISHER_KEYS", "/nonexistent"),
        ("PUBLISHER_KEYS", "/"),
        ("PUBLISHER_KEYS", "/dev/null"),
        ("PUBLISHER_KEYS", __file__),
        ("SIGNING_KEY", "/nonexistent"),
        ("SIGNING_KEY", "/"),
        ("SIGNING_KEY", "/dev/null"),
        ("API_READ_TIMEOUT", "-1"),
        ("API_READ_TIMEOUT", "1.5"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_refusal_names_the_variable_and_does_not_repeat_its_value(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name) as refusal:
        Settings.from_env({name: value})
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", ["127.0.0.1:80", "localhost:8080", "[::1]:8080", "unix:/run/loader.sock"])
def test_loader_bind_accepts_tcp_addresses_and_unix_sockets(value: str) -> None:
    assert Settings.from_env({"LOADER_BIND": value}).bind == value


def test_publisher_keys_are_read_from_their_file(tmp_path: Path) -> None:
    assert Settings.from_env({}).publisher_keys is None
    path = write_publishers(tmp_path / "publishers")
    assert Settings.from_env({"PUBLISHER_KEYS": str(path)}).publisher_keys == TRUSTED


def test_an_expired_key_is_a_warning_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places = {"MODEL_CACHE_DIR": f"{tmp_path}/models", "IMAGES_PATH": f"{tmp_path}/images.enc"}
    keys = (dataclasses.replace(TRUSTED.keys[0], expires=date(2020, 1, 31)), TRUSTED.keys[1])
    path = write_publishers(tmp_path / "publishers", PublisherKeys(keys))
    create_app(Settings.from_env({**places, "PUBLISHER_KEYS": str(path)}))
    assert [record.message for record in caplog.records if "PUBLISHER_KEYS" in record.message] == [
        "PUBLISHER_KEYS: the key of anna expired on 2020-01-31, but counts while it is listed."
    ]


def test_the_signing_key_is_the_content_of_its_file_and_is_never_shown(tmp_path: Path) -> None:
    assert Settings.from_env({}).signing_key is None
    settings = Settings.from_env({"SIGNING_KEY": str(write_key(tmp_path / "anna.key", ANNA))})
    assert settings.signing_key == ANNA.to_pem()
    assert "PRIVATE" not in repr(settings)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_signing_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "anna.key", ANNA)
    path.chmod(mode)
    with pytest.raises(BadSettings, match=f"SIGNING_KEY names a file of mode {mode:04o}: only its owner"):
        Settings.from_env({"SIGNING_KEY": str(path)})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        *(
            (partial(bytes, data), "is no signing key: it is no ")
            for data in (b"", b"secret", PEM_START + b"\nsecret\n", ANNA.public)
        ),
        (partial(seal_signing_key, ANNA, "passphrase"), "has a passphrase, and nobody can be asked for it here"),
    ],
    ids=["empty", "text", "PEM", "public", "passphrase"],
)
def test_a_file_without_a_usable_signing_key_is_refused(tmp_path: Path, make: Callable[[], bytes], told: str) -> None:
    path = write_key(tmp_path / "anna.key", ANNA)
    path.write_bytes(make())
    with pytest.raises(BadSettings, match=f"^bad configuration: the file that SIGNING_KEY names {told}"):
        signing_key(Settings.from_env({"SIGNING_KEY": str(path)}))


@pytest.mark.parametrize(
    ("command", "code"), [(["-m", "loader", "serve"], BAD_SETTINGS_EXIT_CODE), (["-c", "import wsgi"], 3)]
)
def test_a_file_without_a_usable_signing_key_stops_the_start(tmp_path: Path, command: list[str], code: int) -> None:
    path = write_key(tmp_path / "anna.key", ANNA)
    path.write_bytes(b"secret")
    ended = subprocess.run(
        [sys.executable, *command],
        env={
            "SIGNING_KEY": str(path),
            "MODEL_CACHE_DIR": f"{tmp_path}/models",
            "IMAGES_PATH": f"{tmp_path}/images.enc",
            "PATH": "",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == code
    assert re.fullmatch(
        r"bad configuration: the file that SIGNING_KEY names is no signing key: it is no .*\n", ended.stderr
    )


def test_a_signing_key_of_many_bytes_is_refused(tmp_path: Path) -> None:
    path = write_key(tmp_path / "anna.key", ANNA)
    path.write_bytes(ANNA.to_pem() + bytes(4096))
    with pytest.raises(BadSettings, match="SIGNING_KEY names a file of more than 4096 bytes"):
        Settings.from_env({"SIGNING_KEY": str(path)})


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(BadSettings, match=r"LOADER_THREADS.*LOG_LEVEL"):
        Settings.from_env({"LOADER_THREADS": "x", "LOG_LEVEL": "x"})


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"], BAD_SETTINGS_EXIT_CODE),
        (["-m", "loader", "serve"], BAD_SETTINGS_EXIT_CODE),
        (["-c", "import wsgi"], 3),
    ],
)
def test_a_bad_value_stops_the_start_with_one_line_on_stderr(command: list[str], code: int) -> None:
    ended = subprocess.run(
        [sys.executable, *command],
        env={"LOADER_THREADS": "x", "IMAGES_PATH": "x", "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == code
    assert ended.stderr.splitlines() == [
        "bad configuration: IMAGES_PATH must be an absolute path; "
        "LOADER_THREADS must be a whole number from 1 to 999999"
    ]


def test_the_readme_has_the_same_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    expected = [
        (variable.name, f"`{variable.default}`" if variable.default else "empty", variable.meaning)
        for variable in variables().values()
    ]
    assert rows[: len(expected)] == expected
    assert [row[0] for row in rows[len(expected) :]] == ["DOCKER_HOST"]


@pytest.mark.parametrize(
    ("url", "in_the_clear"),
    [
        ("http://api.example", True),
        ("HTTP://api.example/base", True),
        ("http://10.0.0.1:8000/base", True),
        ("http://127.example", True),
        ("http://localhost.example", True),
        ("http://[::ffff:192.0.2.1]", True),
        ("http://localhost:9", False),
        ("http://127.0.0.53", False),
        ("http://[::1]:8000", False),
        ("https://api.example", False),
    ],
)
def test_an_api_without_tls_beyond_this_device_is_a_warning_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, in_the_clear: bool
) -> None:
    places = {"MODEL_CACHE_DIR": f"{tmp_path}/models", "IMAGES_PATH": f"{tmp_path}/images.enc"}
    settings = Settings.from_env({**places, "RESOURCE_API_URL": url})
    assert settings.api_in_the_clear is in_the_clear
    create_app(settings)
    found = [record for record in caplog.records if "the network can read password and token" in record.message]
    assert [record.levelname for record in found] == ["WARNING"] * in_the_clear
