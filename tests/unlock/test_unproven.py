"""Archives whose head nobody has authenticated: what they can reach in the engine, and what `ready` then says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.crypto.archive_head import MAX_REFERENCES
from loader.unlock.journal import PINS
from tests.support.archive_parts import Parts
from tests.support.archives import APP, VERSION, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.http_calls import call
from tests.support.images import image_id
from tests.support.recording_proxy import RecordingProxy
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

OTHER_FRAGMENT = b"a fragment that the API does not have"
OTHER_ROOT = bytes(range(32, 64))
IMAGE = HandmadeImage(APP, (HandmadeLayer(b"known" * 1000),))
# What every plan tries, whatever the archive says.
TRIAL = re.compile(r"(POST|DELETE) /v[0-9.]+/images/(load|azaion-loader\.invalid/absent(/tag\?.*)?)$")
LOOK = re.compile(r"GET (/v[0-9.]+)?/(_ping|version|info|images/[^?]+/json)")

HOSTILE = (
    *("../containers", "../containers/json", "../distribution/127.0.0.1:5000/x:1", "..", "../..", "../images/x:1"),
    *("docker.io/../../containers/json", "docker.io/library/../../x:1", "docker.io/library/..:1", "a.b/./x:1"),
    *("docker.io/library/x%2f..%2f..%2fcontainers:1", "%2e%2e/containers:1", "docker.io/library/x:1%00", "a.b/x%3Fy:1"),
    *(
        "docker.io/library/x:1?manifests=1",
        "docker.io/library/x?y:1",
        "docker.io/library/x:1#y",
        "docker.io/library/x#:1",
    ),
    *("docker.io/library/X:1", "docker.io/Library/x:1", "docker.io/library/x:" + "t" * 129),
    *("a.b/" + "c" * 252 + ":1", "a.b/" + "c/" * 200 + "c:1", "d" * 300 + ".example/x:1"),
    *("docker.io/library/é:1", "docker.io/library/x:é", "docker.io/library/х:1", "docker.io/library/x:\u0661"),  # noqa: RUF001
    *(
        "docker.io/library/x:1\n",
        "docker.io/library/x\r\nHost: y:1",
        "docker.io/library/x:1 ",
        " docker.io/library/x:1",
    ),
    *(
        "docker.io//x:1",
        "docker.io/library/x:1/",
        "/docker.io/library/x:1",
        "//127.0.0.1:5000/x:1",
        "docker.io/library/:1",
    ),
    *("http://127.0.0.1:5000/x:1", "docker.io/library/x\\y:1", "docker.io/library/x;y:1", "docker.io/library/x:1:2"),
    *("", "x", "x:1", "library/x:1", "docker.io/x:1", "index.docker.io/library/x:1", "sha256:" + "a" * 64, "a" * 64),
    *("docker.io/library/x@sha256:" + "a" * 64, "docker.io/library/x:1@sha256:" + "a" * 64, "docker.io/library/x"),
    f"{PINS}:{'a' * 32}",  # a name that the loader itself gives images
    *("*", "docker.io/library/*:1", "$(x)", "-x", "docker.io/-x/y:1", "[::1%lo]:5000/x:1", "user:pass@a.b/x:1"),
)


def write(device: UnlockDevice, parts: Parts) -> None:
    device.archive.write_bytes(parts.joined())


def with_references(path: Path, *references: object) -> Parts:
    """Return an archive of one image under these names, made without any check."""
    parts = Parts.of(seal(path, [IMAGE]).read_bytes())
    image = json.loads(parts.head)["images"][0]
    again = [{"reference": name, "manifest": image["manifest"]} for name in references[1:]]
    parts.edit_head(images=[image | {"reference": references[0]}, *again])
    return parts


@pytest.fixture
def proxy(docker: Engine, tmp_path: Path) -> RecordingProxy:
    """The Docker engine behind a proxy that records all requests. The engine has the image `IMAGE`."""
    docker.client.images.load(b"".join(docker_archive(IMAGE)))
    assert image_id(docker, APP) == IMAGE.image.config
    return RecordingProxy(tmp_path / "recorded.sock", docker.socket)


def lines(proxy: RecordingProxy) -> list[str]:
    return [f"{request.method} {request.path}" for request in proxy.requests]


def test_no_malformed_reference_of_a_head_reaches_the_engine(
    unlock_device: UnlockDevice, proxy: RecordingProxy, tmp_path: Path
) -> None:
    with proxy:
        operator = unlock_device.start(proxy.host)
        call(operator.loader.url, "GET", "/ready")  # so that the engine is known
        for reference in (*HOSTILE, None, 7, ["x"], {"x": 1}):
            write(unlock_device, with_references(tmp_path / "forged", reference))
            proxy.forget()
            call(operator.loader.url, "GET", "/unlock/plan").problem(500, "ARCHIVE_CORRUPT")
            assert_failed(operator.unlock(), "ARCHIVE_CORRUPT")
            assert lines(proxy) == [], reference
    assert unlock_device.api.requests() == []


@pytest.mark.parametrize(
    "reference",
    [
        *("containers.example/json:1", "localhost/get:1", "127.0.0.1:5000/x:1", "[::1]:5000/x:1", "HOST/foo:1"),
        *("docker.io/library/json:json", "docker.io/distribution/json:1", "docker.io/a/history:get", "a.b/search:x"),
        "a.b/" + "c" * 251 + ":" + "t" * 128,
    ],
)
def test_a_well_formed_reference_of_a_head_is_looked_up_and_nothing_else(
    unlock_device: UnlockDevice, proxy: RecordingProxy, tmp_path: Path, reference: str
) -> None:
    """The engine is asked for an image of exactly this name, and connects to nothing."""
    with proxy:
        write(unlock_device, with_references(tmp_path / "forged", reference))
        reply = call(unlock_device.start(proxy.host).loader.url, "GET", "/unlock/plan")
    # Old engines take no capital letter and no IPv6 address in the name of a registry.
    assert reply.status == 200 or reply.problem(500, "ENGINE_REJECTED")
    assert all(load.length == load.body_bytes == 0 for load in proxy.sent("POST", "/images/load"))
    (looked_up,) = proxy.sent("GET", "/images/")
    path = re.sub(r"^/v[0-9.]+/images/", "", looked_up.path).replace("%5B", "[").replace("%5D", "]")
    assert path == f"{reference}/json"
    assert all(LOOK.match(line) or TRIAL.match(line) for line in lines(proxy))


def test_a_head_has_at_most_256_references(unlock_device: UnlockDevice, proxy: RecordingProxy, tmp_path: Path) -> None:
    names = [f"docker.io/library/many:{number}" for number in range(MAX_REFERENCES + 1)]
    with proxy:
        operator = unlock_device.start(proxy.host)
        write(unlock_device, with_references(tmp_path / "forged", *names))
        call(operator.loader.url, "GET", "/unlock/plan").problem(500, "ARCHIVE_CORRUPT")
        assert lines(proxy) == []
        write(unlock_device, with_references(tmp_path / "forged", *names[:-1]))
        for _ in range(20):
            assert len(operator.get("/unlock/plan")["images"]) == MAX_REFERENCES
        # The plan may have been made twice, because a slow machine needs more than two seconds for twenty calls.
        assert len(proxy.sent("GET", "/images/")) in (MAX_REFERENCES, 2 * MAX_REFERENCES)


def outcome(operator: Operator) -> tuple[str, bool, bool]:
    document = operator.document()
    _, posted = operator.post()
    assert posted.pop("started") is False
    assert {name: posted[name] for name in posted} == {name: document[name] for name in posted}
    return document["state"], document["authenticated"], document["proven"]


def test_a_forged_archive_of_present_images_ends_in_ready_that_is_not_proven(
    unlock_device: UnlockDevice, proxy: RecordingProxy, docker: Engine
) -> None:
    """The forger has no key, and knows which images are there. The archive decides nothing but this answer."""
    tags = sorted(tags_of_tests(docker))
    seal(unlock_device.archive, [IMAGE], fragment=OTHER_FRAGMENT, root=OTHER_ROOT)
    with proxy:
        operator = unlock_device.start(proxy.host)
        assert operator.unlock() == READY
        assert outcome(operator) == ("ready", False, False)
        operator.get("/unlock/plan")
    assert lines(proxy)
    assert all(LOOK.match(line) for line in lines(proxy))
    assert sorted(tags_of_tests(docker)) == tags
    assert unlock_device.api.requests() == []
    assert not unlock_device.remembered.exists()


@pytest.mark.parametrize(
    "missing",
    [
        lambda device: seal(device.archive, [IMAGE, HandmadeImage(f"absent:{VERSION}")], fragment=OTHER_FRAGMENT),
        lambda device: seal(device.archive, [HandmadeImage(APP, (HandmadeLayer(b"other"),))], fragment=OTHER_FRAGMENT),
    ],
    ids=["an image is absent", "another image has the name"],
)
def test_a_forged_archive_of_absent_images_changes_nothing(
    unlock_device: UnlockDevice, proxy: RecordingProxy, docker: Engine, missing: Callable[[UnlockDevice], Path]
) -> None:
    tags = sorted(tags_of_tests(docker))
    missing(unlock_device)
    with proxy:
        operator = unlock_device.start(proxy.host)
        assert_failed(operator.unlock(), "KEY_MISMATCH")
        assert (operator.document()["proven"], operator.document()["authenticated"]) == (False, True)
    assert all(LOOK.match(line) for line in lines(proxy))
    assert sorted(tags_of_tests(docker)) == tags
    assert image_id(docker, APP) == IMAGE.image.config


def test_a_head_that_only_its_mac_can_tell_from_the_true_one_is_not_proven(
    unlock_device: UnlockDevice, proxy: RecordingProxy
) -> None:
    """An attacker changes one byte of the head of a true archive, such as its time."""
    with proxy:
        operator = unlock_device.start(proxy.host)
        parts = Parts.of(seal(unlock_device.archive, [IMAGE]).read_bytes())
        assert operator.unlock() == READY
        assert outcome(operator) == ("ready", False, False)  # it was there before
        release = json.loads(parts.head)["release"]
        parts.edit_head(release=release | {"created": "2026-01-02T03:04:05.679Z"})
        write(unlock_device, parts)
        assert operator.unlock() == READY
        assert outcome(operator) == ("ready", False, False)


def test_an_unlock_proves_its_archive_until_another_one_comes(unlock_device: UnlockDevice, docker: Engine) -> None:
    seal(unlock_device.archive, [IMAGE], serial=1)
    operator = unlock_device.start(docker.host)
    assert operator.document()["proven"] is False
    assert operator.unlock() == READY
    assert outcome(operator) == ("ready", True, True)
    call(operator.loader.url, "POST", "/lock")
    assert outcome(operator) == ("ready", False, True)
    operator.loader.stop()

    # After a restart the images are there, and the remembered head is that of the archive.
    operator = unlock_device.start(docker.host)
    assert operator.unlock() == READY
    assert outcome(operator) == ("ready", False, True)

    # The same head under another key fragment is the same release.
    seal(unlock_device.archive, [IMAGE], fragment=OTHER_FRAGMENT, serial=1)
    assert operator.unlock() == READY
    assert outcome(operator) == ("ready", False, True)

    # Another root makes another head, which needs another serial.
    seal(unlock_device.archive, [IMAGE], root=OTHER_ROOT, serial=2)
    assert operator.unlock() == READY
    assert outcome(operator) == ("ready", False, False)

    # Without an archive the remembered images decide, which are proven.
    unlock_device.archive.unlink()
    assert operator.posted() == "ready"
    assert outcome(operator) == ("ready", False, True)


def test_expected_images_prove_nothing(unlock_device: UnlockDevice, proxy: RecordingProxy) -> None:
    with proxy:
        operator = unlock_device.start(proxy.host, EXPECTED_IMAGES=APP)
        assert operator.posted() == "ready"
        assert outcome(operator) == ("ready", False, False)
