"""The settings of a store: what is missing or wrong ends the start with one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resource_api.data_directory import DataDirectory
from resource_api.storage.s3_settings import StoreSettingsError, store_settings
from resource_api.storage.s3_signature import KeyPair
from tests.resource_api.conftest import REPOSITORY, START_SECONDS
from tests.support.processes import clean_env

SECRET = "a secret key, which no message may contain".replace(" ", "-")
BIG = {"RESOURCE_API_STORE": "https://store.example.com", "RESOURCE_API_STORE_BUCKET": "big"}
SMALL = {"RESOURCE_API_SMALL_BUCKET": "small"}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """Return settings of two buckets, complete and sound."""
    for name in ("big", "small"):
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(f"{name}-access\n{SECRET}\n")
    keys = {f"RESOURCE_API_{kind}_KEYS": str(tmp_path / name) for kind, name in (("STORE", "big"), ("SMALL", "small"))}
    return {**BIG, **SMALL, **keys}


def test_nothing_set_is_no_store() -> None:
    assert store_settings({"PATH": "/bin", "RESOURCE_API_DATA": "/srv", "RESOURCE_API_STORE": ""}) is None


def test_what_is_not_set_has_a_default(given: dict[str, str]) -> None:
    settings = store_settings(given)
    assert settings is not None
    assert (settings.endpoint, settings.region, settings.authorities) == (BIG["RESOURCE_API_STORE"], "us-east-1", None)
    assert settings.url_seconds == 600
    assert settings.big == ("big", KeyPair("big-access", SECRET))
    assert settings.small == ("small", KeyPair("small-access", SECRET))
    assert SECRET not in repr(settings)


def test_without_a_small_bucket_the_data_directory_has_what_is_small(given: dict[str, str]) -> None:
    settings = store_settings({name: value for name, value in given.items() if "SMALL" not in name})
    assert settings is not None
    assert settings.small is None


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://Store.example.com/", "https://store.example.com"),
        ("https://store.example.com:443", "https://store.example.com"),
        ("http://10.0.0.7:80", "http://10.0.0.7"),
        ("http://10.0.0.7:9000/", "http://10.0.0.7:9000"),
        ("http://[fd00::7]:9000", "http://[fd00::7]:9000"),
    ],
)
def test_the_endpoint_has_the_host_that_clients_send(given: dict[str, str], url: str, endpoint: str) -> None:
    settings = store_settings(given | {"RESOURCE_API_STORE": url})
    assert settings is not None
    assert settings.endpoint == endpoint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RESOURCE_API_STORE", ""),
        ("RESOURCE_API_STORE", "store.example.com"),
        ("RESOURCE_API_STORE", "ftp://store.example.com"),
        ("RESOURCE_API_STORE", "https://store.example.com/bucket"),
        ("RESOURCE_API_STORE", "https://user@store.example.com"),
        ("RESOURCE_API_STORE", "https://store.example.com:port"),
        ("RESOURCE_API_STORE_BUCKET", ""),
        ("RESOURCE_API_STORE_BUCKET", "a/b"),
        ("RESOURCE_API_STORE_KEYS", ""),
        ("RESOURCE_API_STORE_KEYS", "/nowhere"),
        ("RESOURCE_API_STORE_REGION", "us east"),
        ("RESOURCE_API_STORE_CA", "/nowhere"),
        *(("RESOURCE_API_STORE_URL_SECONDS", value) for value in ("0", "604801", "-1", "1.5", "x")),
        ("RESOURCE_API_SMALL_BUCKET", ""),
        ("RESOURCE_API_SMALL_BUCKET", "big"),
        ("RESOURCE_API_SMALL_KEYS", ""),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(given: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(StoreSettingsError, match=name) as refused:
        store_settings(given | {name: value})
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "only-one-line\n", f"three\n{SECRET}\nlines\n", "\udcff"])
def test_a_file_of_keys_that_is_none_is_named(given: dict[str, str], content: str) -> None:
    path = Path(given["RESOURCE_API_STORE_KEYS"])
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(StoreSettingsError, match=str(path)) as refused:
        store_settings(given)
    assert SECRET not in str(refused.value)


def test_keys_that_others_may_read_are_refused(given: dict[str, str]) -> None:
    Path(given["RESOURCE_API_STORE_KEYS"]).chmod(0o640)
    with pytest.raises(StoreSettingsError, match="chmod 600"):
        store_settings(given)


def test_both_buckets_must_not_belong_to_one_account(given: dict[str, str]) -> None:
    with pytest.raises(StoreSettingsError, match="another account"):
        store_settings(given | {"RESOURCE_API_SMALL_KEYS": given["RESOURCE_API_STORE_KEYS"]})


def test_the_server_does_not_start_with_half_of_the_settings(data: DataDirectory, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resource_api", "serve", str(data.root), "--bind", f"unix:{tmp_path}/socket"],
        env=clean_env(tmp_path, RESOURCE_API_STORE="https://store.example.com"),
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "resource_api: RESOURCE_API_STORE_BUCKET must name a bucket, not ''"
