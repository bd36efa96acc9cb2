"""What the system, a full disk or a broken engine says reaches the caller."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loader.docker_engine import DockerEngine
from loader.docker_engine.reasons import LOST_HINT, RIGHTS_HINT, one_line
from loader.docker_engine.saving import until_error
from loader.errors import DiskSpace, EngineRejected, EngineStalled, EngineUnavailable
from tests.docker_engine.connecting import connected, pieces
from tests.support.archives import APP
from tests.support.engines import Engine, engine_of
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.support.faulty_wire import FaultyWire
from tests.support.http_probe import socket_path
from tests.support.images import import_image, remove_image, save_images
from tests.support.small_disk import fill, small_disk

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Have no rights on the files of others, also as root."""
    before = os.geteuid()
    os.seteuid(NOBODY if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_missing_rights_on_the_socket_are_told(fake: FakeEngine) -> None:
    path = Path(socket_path(fake.host))
    path.chmod(0)
    with (
        as_nobody(),
        pytest.raises(EngineUnavailable, match=r"fake\.sock does not respond: Permission denied\.$") as caught,
    ):
        DockerEngine(1).find(APP)
    assert caught.value.hint == RIGHTS_HINT
    path.chmod(0o777)
    assert DockerEngine(1).find(APP) is None


def test_missing_rights_on_the_certificates_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cert.pem").touch(0)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with as_nobody(), pytest.raises(EngineUnavailable, match=r"cannot be used: .*/cert\.pem: Permission denied\.$"):
        DockerEngine(1).find(APP)


@pytest.mark.heavy
def test_a_full_disk_of_the_engine_during_a_save_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", 64 * MIB) as disk, engine_of("docker_engine", disk / "data") as real:
        import_image(real, APP, random_mib=8)
        fill(disk, leave=2 * MIB)
        with pytest.raises(DiskSpace, match=r"^The disk of the Docker engine at unix://\S+ is full: .*no space left"):
            next(connected(real.host, monkeypatch).save([APP]))


def test_an_error_in_the_middle_of_a_save_is_told(
    docker_containerd_26: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The containerd store has begun its response when it finds that a blob is gone."""
    store = docker_containerd_26.socket.parent / "data/containerd/daemon/io.containerd.content.v1.content/blobs/sha256"
    import_image(docker_containerd_26, APP, random_mib=3)
    try:
        largest = max(store.iterdir(), key=lambda path: path.stat().st_size)
        largest.unlink()
        pieces = connected(docker_containerd_26.host, monkeypatch).save([APP])
        with pytest.raises(
            EngineRejected, match=rf"at unix://\S+ could not save the images: .*{largest.name}.*not found"
        ):
            b"".join(pieces)
    finally:
        remove_image(docker_containerd_26, APP)


@pytest.mark.parametrize("start", [b"", b"tar"], ids=repr)
def test_content_that_looks_like_an_error_is_no_error(start: bytes) -> None:
    """Only the end of a response can be an error; anything else is a piece of a file."""
    lookalike = b'{"errorDetail": {"message": "in a file of the image"}}'
    made = [start, lookalike, lookalike, b"\0" * 1024]
    assert list(until_error(made, lambda _: EngineRejected("an error"))) == made


FULL = {"message": "failed to convert: write /var/x:\n No space left on device"}


def test_a_full_disk_is_told_by_whatever_the_engine_says(fake: FakeEngine) -> None:
    """podman 4.3 responds like this to a look at an image."""
    fake.image = (500, FULL)
    with pytest.raises(DiskSpace, match=r"is full: failed to convert: write /var/x: No space left on device\.$"):
        DockerEngine(1).find(APP)
    # The engine responds, and the rest of what it tells is known.
    fake.info = (500, FULL)
    assert DockerEngine(1).describe().root is None
    fake.load = lambda call: call.respond(500, {"message": "writing blob: disk quota exceeded"})
    with pytest.raises(DiskSpace, match="disk quota exceeded"):
        DockerEngine(1).load(io.BytesIO(b"tar"))


@pytest.mark.parametrize("version", ["1.2", "0.9"])
def test_an_engine_whose_api_is_too_old_is_told(fake: FakeEngine, version: str) -> None:
    fake.version = {"ApiVersion": version}
    with pytest.raises(EngineRejected, match=rf"speaks API {version}, which is too old") as caught:
        DockerEngine(1).find(APP)
    assert "1.24" in caught.value.hint


@pytest.mark.parametrize("version", ["abc", "", None, 5, [], {}, "1.x"], ids=repr)
def test_an_engine_whose_api_is_nonsense_is_told(fake: FakeEngine, version: Any) -> None:
    fake.version = {"ApiVersion": version}
    with pytest.raises(EngineRejected):
        DockerEngine(1).find(APP)


@pytest.mark.parametrize("body", [b"<html>Log in to the hotel</html>", b"\xff\xfe", b'{"stream": '], ids=repr)
def test_a_response_that_is_no_json_is_told(fake: FakeEngine, body: bytes) -> None:
    fake.load = lambda call: call.respond_bytes(200, body)
    with pytest.raises(EngineUnavailable, match="was lost during the load: its response is not JSON"):
        DockerEngine(1).load(io.BytesIO(b"tar"))


def test_a_silent_engine_is_told_with_its_address(
    docker: Engine, wire: FaultyWire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_image(docker, APP, random_mib=2)
    tar = save_images(docker, [APP], tmp_path / "saved.tar")
    remove_image(docker, APP)
    wire.hold_upload(after=MIB)
    with pytest.raises(EngineStalled, match=r"at unix://\S+ fell silent during the load: no response in time\."):
        connected(wire.host, monkeypatch, 0.5).load(pieces(tar))


def test_a_lost_connection_is_told_with_its_reason(fake: FakeEngine) -> None:
    def cut(call: FakeCall) -> None:
        call.close_connection = True

    fake.load = cut
    with pytest.raises(EngineUnavailable, match="was lost during the load: it closed the connection") as caught:
        DockerEngine(1).load(io.BytesIO(b"tar"))
    assert caught.value.hint == LOST_HINT


def test_a_line_is_short_and_can_be_printed() -> None:
    assert one_line(" a\n\tb\x1b[31m\x00c\u202e. ") == "a b [31m c"
    assert one_line("x" * 600) == "x" * 496 + " ..."
    assert one_line("x" * 500) == "x" * 500


@pytest.mark.parametrize("version", ["garbage", "9.99", ""])
def test_docker_api_version_has_no_effect(fake: FakeEngine, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", version)
    assert fake.version == {}
    assert DockerEngine(1).find(APP) is None
