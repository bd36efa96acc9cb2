"""`DockerEngine` against real engines: docker and podman."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from loader.crypto.archive import ManifestImage
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import EngineRejected, EngineStalled, EngineUnavailable, ImageMismatch, Interrupted
from tests.support.archives import APP, DATABASE, PREFIX, tags_of_tests
from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_wire import FaultyWire
from tests.support.images import has_image, image_id, import_image, remove_image, save_images, unnamed_images

pytest_plugins = ("tests.support.unlock_fixtures",)

PATIENCE_SECONDS = 60
SILENCE_SECONDS = 1
WAIT_SECONDS = 30.0
MIB = 1 << 20
READ_SIZE = 64 * 1024
ABSENT = f"{PREFIX}absent:1"

IMAGE = EngineImage("sha256:" + "1" * 64, ("sha256:" + "2" * 64,), "2026-01-02T03:04:05Z", 10, named=True)
SAME = ManifestImage("any:1", IMAGE.id, IMAGE.layers, IMAGE.created)
OTHER_ID = "sha256:" + "3" * 64


@pytest.fixture(params=["docker", "podman"])
def real(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    return cast("Engine", request.getfixturevalue(request.param))


@pytest.fixture
def engine(real: Engine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """The DockerEngine under test, connected to the real engine."""
    return connected(real.host, monkeypatch)


def connected(host: str, monkeypatch: pytest.MonkeyPatch, timeout: float = PATIENCE_SECONDS) -> DockerEngine:
    monkeypatch.setenv("DOCKER_HOST", host)
    return DockerEngine(timeout)


def manifest_image(engine: DockerEngine, reference: str) -> ManifestImage:
    found = engine.find(reference)
    assert found is not None
    return ManifestImage(reference, found.id, found.layers, found.created)


@contextmanager
def cut_when_held(wire: FaultyWire) -> Iterator[None]:
    """Cut the wire as soon as it holds something, while the block runs."""

    def cut() -> None:
        wire.wait_until_held()
        wire.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    yield
    cutter.join(WAIT_SECONDS)


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            yield piece


@pytest.mark.parametrize(
    ("expected", "same"),
    [
        (SAME, True),
        (replace(SAME, layers=(), created=""), True),
        (replace(SAME, id=OTHER_ID), True),
        (replace(SAME, id=OTHER_ID, created="2026-01-02T03:04:06Z"), False),
        (replace(SAME, id=OTHER_ID, layers=(*SAME.layers, *SAME.layers)), False),
        (replace(SAME, id=OTHER_ID, layers=()), False),
    ],
    ids=["all equal", "ID alone", "content alone", "other time", "other layers", "no layers"],
)
def test_an_image_is_the_same_by_its_id_or_by_its_content(expected: ManifestImage, same: bool) -> None:
    assert IMAGE.is_image_of(expected) is same


def test_images_without_layers_are_compared_by_their_ids() -> None:
    empty = replace(IMAGE, layers=())
    assert not empty.is_image_of(replace(SAME, id=OTHER_ID, layers=()))


def test_find_describes_an_image(engine: DockerEngine, real: Engine) -> None:
    image = import_image(real, APP, random_mib=1)
    found = engine.find(APP)
    assert found is not None
    assert found.id == f"sha256:{image.removeprefix('sha256:')}"
    assert len(found.layers) == 1
    assert found.layers[0].startswith("sha256:")
    assert found.created.endswith("Z")
    assert found.size > MIB


def test_find_returns_none_for_an_absent_image(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    assert engine.find(ABSENT) is None
    assert engine.find(APP + "1") is None


def test_holds_and_verify_require_exactly_the_expected_images(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    import_image(real, DATABASE, seed=1)
    app, database = manifest_image(engine, APP), manifest_image(engine, DATABASE)
    assert engine.holds([app, database])
    engine.verify([app, database])

    other = replace(database, reference=APP)  # the tag is there, and it is another image's
    assert not engine.holds([database, other])
    with pytest.raises(ImageMismatch, match=APP):
        engine.verify([database, other])

    absent = replace(app, reference=ABSENT)
    assert not engine.holds([app, absent])
    with pytest.raises(ImageMismatch, match=ABSENT):
        engine.verify([app, absent])


def test_several_saved_images_can_be_loaded(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP, random_mib=3)
    import_image(real, DATABASE, seed=1)
    images = [manifest_image(engine, APP), manifest_image(engine, DATABASE)]
    tar = list(engine.save([APP, DATABASE]))
    assert len(tar) > 1
    for reference in (APP, DATABASE):
        remove_image(real, reference)
    assert not engine.holds(images)

    signs: list[int] = []
    engine.load(iter(tar), signs.append)
    engine.verify(images)
    assert [image_id(real, image.reference) for image in images] == [image.id for image in images]
    # docker reports on the way, so that a long load does not look like a dead engine; podman speaks at the end only.
    assert len(signs) > (len(images) if real.name == "docker" else 0)
    assert max(signs) > (3 * MIB if real.name == "docker" else -1)


def test_an_absent_image_cannot_be_saved(engine: DockerEngine) -> None:
    with pytest.raises(EngineRejected):
        next(engine.save([ABSENT]))


@pytest.mark.parametrize("reason", [Interrupted("told to stop"), ZeroDivisionError("a bug")], ids=repr)
@pytest.mark.parametrize("part", [0.5, 1.0], ids=["half way", "after all bytes"])
def test_a_source_that_fails_leaves_nothing_in_the_engine(
    engine: DockerEngine, real: Engine, tmp_path: Path, reason: Exception, part: float
) -> None:
    import_image(real, APP, random_mib=2)
    tar = save_images(real, [APP], tmp_path / "saved.tar").read_bytes()
    remove_image(real, APP)

    def failing() -> Iterator[bytes]:
        yield tar[: int(len(tar) * part)]
        raise reason

    with pytest.raises(type(reason), match=str(reason)):
        engine.load(failing())
    assert engine.find(APP) is None
    engine.load(iter([tar]))
    assert engine.find(APP) is not None


def test_a_source_that_ends_early_is_refused(engine: DockerEngine, real: Engine, tmp_path: Path) -> None:
    import_image(real, APP, random_mib=2)
    tar = save_images(real, [APP], tmp_path / "saved.tar").read_bytes()
    remove_image(real, APP)
    with pytest.raises(EngineRejected, match=r"^The Docker engine refused the images: [^\n]+\.$"):
        engine.load(iter([tar[: len(tar) // 2]]))
    assert engine.find(APP) is None


def test_an_invalid_image_name_is_refused(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineRejected, match="invalid reference format"):
        connected(docker.host, monkeypatch).find("Not a name")


def test_an_image_replaced_by_a_load_loses_only_its_name(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(docker.host, monkeypatch)
    import_image(docker, APP)
    tar = list(engine.save([APP]))
    image = manifest_image(engine, APP)
    other = import_image(docker, APP, seed=5)
    engine.load(iter(tar))
    assert image_id(docker, APP) == image.id
    assert has_image(docker, other)


def test_a_reference_can_be_restored(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    before = engine.find(APP)
    engine.restore(APP, before)
    assert engine.find(APP) == before

    import_image(real, APP, seed=5)
    engine.restore(APP, before)
    assert engine.find(APP) == before
    assert unnamed_images(real) == []

    engine.restore(APP, None)
    assert engine.find(APP) is None
    engine.restore(APP, None)


def test_a_reference_without_a_tag_can_be_restored(engine: DockerEngine, real: Engine) -> None:
    import_image(real, f"{PREFIX}untagged:latest")
    before = engine.find(f"{PREFIX}untagged")
    import_image(real, f"{PREFIX}untagged:latest", seed=5)
    engine.restore(f"{PREFIX}untagged", before)
    assert engine.find(f"{PREFIX}untagged") == before


def test_the_image_that_loses_a_reference_stays_if_it_has_another(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    before = engine.find(APP)
    other = import_image(real, APP, seed=5)
    real.client.api.tag(APP, *DATABASE.split(":"))
    engine.restore(APP, before)
    assert image_id(real, DATABASE) == other


def test_only_an_image_without_a_name_is_removed_as_dangling(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    image = engine.find(APP)
    assert image is not None
    engine.remove_if_dangling(image)
    assert engine.find(APP) == image

    import_image(real, APP, seed=5)
    assert unnamed_images(real) != []
    engine.remove_if_dangling(image)
    assert unnamed_images(real) == []
    engine.remove_if_dangling(image)


def test_the_engine_reports_its_root_directory(engine: DockerEngine) -> None:
    root = engine.root_directory()
    assert root is not None
    assert root.is_dir()


@pytest.mark.parametrize("info", [(403, {"message": "forbidden"}), (200, {}), (200, {"DockerRootDir": ""})], ids=repr)
def test_an_engine_may_hide_its_root_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, info: tuple[int, dict[str, Any]]
) -> None:
    with FakeEngine(tmp_path / "fake.sock", lambda call: call.respond(200, {})) as fake:
        fake.info = info
        assert connected(fake.host, monkeypatch).root_directory() is None


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_engine_that_was_down_is_used_once_it_is_up(
    docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_image(docker, APP)
    link = tmp_path / "docker.sock"
    engine = connected(f"unix://{link}", monkeypatch)
    for call in (lambda: engine.find(APP), lambda: engine.load(iter([b""])), lambda: next(engine.save([APP]))):
        with pytest.raises(EngineUnavailable, match="does not respond"):
            call()
    link.symlink_to(docker.socket)
    assert engine.find(APP) is not None


def test_a_query_to_an_engine_that_never_responds_times_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        engine = connected(f"unix://{tmp_path}/silent.sock", monkeypatch, SILENCE_SECONDS)
        with pytest.raises(EngineUnavailable):
            engine.find(APP)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("host", ["nonsense://x", "unix:///nonexistent/docker.sock", "tcp://127.0.0.1:9"])
def test_an_unusable_docker_host_means_that_the_engine_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with pytest.raises(EngineUnavailable):
        connected(host, monkeypatch).find(APP)


def test_a_query_gets_its_response_during_a_load(
    docker: Engine, wire: FaultyWire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_image(docker, APP, random_mib=2)
    tar = save_images(docker, [APP], tmp_path / "saved.tar")
    remove_image(docker, APP)
    engine = connected(wire.host, monkeypatch)
    wire.hold_upload(after=MIB)
    load = threading.Thread(target=engine.load, args=(pieces(tar),))
    load.start()
    wire.wait_until_held()
    assert engine.find(APP) is None
    assert load.is_alive()
    wire.release()
    load.join(WAIT_SECONDS)
    assert engine.find(APP) is not None


def test_a_stall_and_a_lost_connection_during_a_load_are_different_errors(
    docker: Engine, wire: FaultyWire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_image(docker, APP, random_mib=2)
    tar = save_images(docker, [APP], tmp_path / "saved.tar")
    remove_image(docker, APP)
    wire.hold_upload(after=MIB)
    with pytest.raises(EngineStalled):
        connected(wire.host, monkeypatch, SILENCE_SECONDS).load(pieces(tar))
    wire.heal()

    wire.hold_upload(after=MIB)
    with cut_when_held(wire), pytest.raises(EngineUnavailable, match="lost during the load"):
        connected(wire.host, monkeypatch).load(pieces(tar))
    assert tags_of_tests(docker) == []


def test_a_save_that_is_cut_raises_an_error(docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import_image(docker, APP, random_mib=3)
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=2 * MIB)
        with cut_when_held(wire), pytest.raises(EngineUnavailable):
            list(connected(wire.host, monkeypatch).save([APP]))


def test_a_save_that_falls_silent_raises_an_error(
    docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_image(docker, APP, random_mib=3)
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=2 * MIB)
        with pytest.raises(EngineUnavailable):
            list(connected(wire.host, monkeypatch, SILENCE_SECONDS).save([APP]))


def test_every_engine_responds_to_a_ping(engine: DockerEngine) -> None:
    engine.ping()
    engine.ping()


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_ping_of_a_silent_engine_ends_soon_while_other_queries_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("loader.docker_engine.PING_TIMEOUT", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        engine = connected(f"unix://{tmp_path}/silent.sock", monkeypatch, 3 * SILENCE_SECONDS)

        def find() -> None:
            with suppress(EngineUnavailable):
                engine.find(APP)

        patient = threading.Thread(target=find)
        patient.start()
        started = time.monotonic()
        with pytest.raises(EngineUnavailable):
            engine.ping()
        assert time.monotonic() - started < SILENCE_SECONDS
        assert patient.is_alive()
        patient.join(WAIT_SECONDS)
