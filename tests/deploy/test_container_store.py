"""deploy/compose-api-store.yaml: a device in a container loads and uploads by the store, whose servers are killed.

The store is OpenStack Swift. Everything runs in an engine of the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests

from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_signature import KeyPair, Signer
from tests.deploy.base_image import STORE, STORE_PACKAGES, STORE_SERVER, store_image
from tests.deploy.composed import IMAGE
from tests.deploy.composed_api import (
    COMPOSE_FILE,
    DEVICE,
    PROJECT,
    SERVERS,
    STORE_FILE,
    ComposedApi,
    composed_api,
    give_to_the_api,
)
from tests.deploy.nginx_checks import store_variant
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.http_calls import call, load, login, upload
from tests.support.http_probe import http_status
from tests.support.images import remove_image
from tests.support.nginx_server import adapted
from tests.support.processes import free_port, poll
from tests.support.swift_store import REGION, SERVER, swift_environment

pytest_plugins = ("tests.deploy.container_fixtures",)
pytestmark = pytest.mark.long

MIB = 1 << 20
SIZE = 64 * MIB
SECONDS = 60.0
# A store that starts again, and the wait of the loader for it.
RESTART_SECONDS = 180.0
OUTER, INNER = f"{PROJECT}_default", "azaion-resource-api"
KEYS_INSIDE = "/etc/azaion-resource-api/store"
NAMES = ("api.example", "store.example")
# By the buckets; the access key of Swift names account and user.
KEYS = {f"azaion-{name}": KeyPair(f"{name}:{name}", f"secret-of-{name}") for name in ("big", "small")}
# nginx sends so slowly that a load lasts for seconds.
SLOW = {"send_timeout 60s;": "send_timeout 60s; limit_rate 16m;"}


@dataclass(frozen=True)
class Device:
    """The `url` of the loader, which is logged in, and the directory `cache` of its big parts."""

    url: str
    cache: Path


@pytest.fixture(scope="module")
def swift_image(engine: Engine) -> Iterator[str]:
    (packages,) = swift_environment().glob("lib/python*/site-packages")
    engine.client.api.import_image_from_data(store_image(packages, SERVER), repository=STORE)
    yield STORE
    remove_image(engine, STORE)


@pytest.fixture(scope="module")
def running(
    engine: Engine,
    api_image: dict[str, Any],  # noqa: ARG001  # makes the image of the API
    swift_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComposedApi]:
    """The services, with the two buckets."""
    place = tmp_path_factory.mktemp("composed-store")
    files = [place / path.name for path in (COMPOSE_FILE, STORE_FILE)]
    # Another port, because that of production may be taken.
    files[0].write_text(adapted(COMPOSE_FILE.read_text(), {'"443:443"': f'"127.0.0.1:{free_port()}:443"'}))
    shutil.copy(STORE_FILE, files[1])
    (place / "nginx-api.conf").write_text(adapted(store_variant(), SLOW))
    accounts = [f"{keys.access_key.partition(':')[0]}:{keys.secret_key}" for keys in KEYS.values()]
    differences: dict[str, dict[str, Any]] = {
        # Debian's nginx uses /var/lib/nginx where the official image uses /var/cache/nginx.
        "nginx": {"tmpfs": ["/var/lib/nginx:mode=0700,uid=101,size=1m"]},
        "store": {
            "command": ["python", "-W", "ignore", str(STORE_SERVER), "/srv/store", "0.0.0.0:8080", *accounts],
            "environment": {"PYTHONPATH": str(STORE_PACKAGES)},
            "stop_grace_period": "0s",
        },
    }
    authority = Authority(place)
    keys = {"STORE_KEYS": str(written_keys(place / "keys", authority)), "STORE_CA": f"{KEYS_INSIDE}/ca.pem"}
    with composed_api(engine, place, files, differences, authority, NAMES, STORE_IMAGE=swift_image, **keys) as started:
        endpoint = f"http://{started.address('store', INNER)}:8080"
        poll(lambda: http_status(endpoint, "/healthcheck") == HTTPStatus.OK, SECONDS, "the store is healthy")
        for name, pair in KEYS.items():
            url = Signer(endpoint, REGION, pair).url("PUT", f"/{name}", 60)
            requests.put(url, timeout=SECONDS).raise_for_status()
        yield started


def written_keys(directory: Path, authority: Authority) -> Path:
    """Make the directory STORE_KEYS, and return it."""
    directory.mkdir()
    for name, pair in KEYS.items():
        file = directory / f"{name.removeprefix('azaion-')}.keys"
        file.touch(mode=0o600)
        file.write_text(f"{pair.access_key}\n{pair.secret_key}\n")
    shutil.copy(authority.path, directory / "ca.pem")
    give_to_the_api(directory)
    return directory


@pytest.fixture(scope="module")
def device(
    running: ComposedApi,
    image: dict[str, Any],  # noqa: ARG001  # makes the image of the loader
    device_disk: Path,
) -> Iterator[Device]:
    volumes = [f"{device_disk}:/opt/azaion", f"{running.authority}:/etc/ca.pem:ro"]
    env = {
        "RESOURCE_API_URL": "https://api.example",
        "RESOURCE_API_CA_BUNDLE": "/etc/ca.pem",
        "API_VERSION": "1.4",
        "LOADER_BIND": "unix:/run/azaion-loader/loader.sock",
    }
    hosts = dict.fromkeys(NAMES, running.address("nginx", OUTER))
    container = running.engine.client.containers.run(
        IMAGE, detach=True, network=OUTER, extra_hosts=hosts, environment=env, volumes=volumes
    )
    try:
        container.reload()
        url = f"unix:/proc/{container.attrs['State']['Pid']}/root/run/azaion-loader/loader.sock"
        poll(lambda: http_status(url, "/health") == HTTPStatus.OK, SECONDS, "the loader is healthy")
        assert login(url, {"email": DEVICE, "password": running.secret}).status == HTTPStatus.OK
        yield Device(url, device_disk / "models")
    finally:
        container.remove(force=True)


def bucket(running: ComposedApi, name: str) -> Bucket:
    """Return a bucket, which is reached without nginx."""
    signer = Signer(f"http://{running.address('store', INNER)}:8080", REGION, KEYS[name])
    return Bucket(StoreClient(signer, None), name)


@pytest.mark.parametrize("killed", SERVERS)
def test_an_upload_goes_on_when_one_server_is_killed(running: ComposedApi, device: Device, killed: str) -> None:
    """One of the two has begun it; the other continues it, if that one is killed."""
    content, big = os.urandom(SIZE), bucket(running, "azaion-big")
    store = running.container("store").attrs["State"]["Pid"]
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(upload, device.url, "models", killed, content)
        poll(lambda: any(big.uploads()), SECONDS, "an upload has begun")
        os.kill(store, signal.SIGSTOP)  # so that the upload is not over before the server is
        running.container(killed).kill()
        assert not sending.done()
        os.kill(store, signal.SIGCONT)
        reply = sending.result()
    assert reply.status == HTTPStatus.OK, reply.body
    assert call(device.url, "POST", "/cache/clear").status == HTTPStatus.OK
    assert load(device.url, "models", killed).body == content
    running.run("start", killed)
    running.wait_until_healthy(killed)


def test_a_load_goes_on_when_the_store_is_killed_and_started_again(running: ComposedApi, device: Device) -> None:
    content = os.urandom(SIZE)
    assert upload(device.url, "models", "net", content).status == HTTPStatus.OK
    assert call(device.url, "POST", "/cache/clear").status == HTTPStatus.OK
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(call, device.url, "GET", "/models/models/net", silence_seconds=RESTART_SECONDS)
        parts = device.cache.rglob
        poll(lambda: any(part.stat().st_size > MIB for part in parts("*.partial")), SECONDS, "a part is here")
        running.container("store").kill()
        assert not loading.done()
        running.container("store").start()
        assert loading.result().body == content
    assert b"X-Amz-Signature" not in running.container("nginx").logs()


def test_each_bucket_has_what_is_worthless_alone(running: ComposedApi, device: Device) -> None:
    assert upload(device.url, "split", "net", os.urandom(SIZE)).status == HTTPStatus.OK
    big, small = ([each.name for each in bucket(running, name).find("")] for name in KEYS)
    assert big
    assert small
    assert all(name.endswith(".big") for name in big)
    assert not any(name.endswith(".big") for name in small)


def test_the_servers_and_the_store_have_no_network_with_a_way_out(running: ComposedApi) -> None:
    assert running.engine.client.networks.get(INNER).attrs["Internal"] is True
    for service in (*SERVERS, "store"):
        assert set(running.container(service).attrs["NetworkSettings"]["Networks"]) == {INNER}, service
