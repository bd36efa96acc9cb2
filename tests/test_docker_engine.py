"""`DockerEngine` against real engines: docker and podman."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from loader.binary_split import Archive, Contents, open_archive
from loader.crypto.archive_head import GZIP, Image
from loader.docker_engine import DockerEngine, EngineDescription, EngineImage, Store
from loader.errors import (
    ArchiveCorrupt,
    EngineRejected,
    EngineStalled,
    EngineUnavailable,
    ImageMismatch,
    Interrupted,
)
from loader.oci import Layout
from loader.unlock.plan import layouts_of
from tests.support.archives import APP, DATABASE, PREFIX, tags_of_tests
from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.images import has_image, image_id, import_image, remove_image, save_images, unnamed_images

pytest_plugins = ("tests.support.unlock_fixtures",)

PATIENCE_SECONDS = 60
SILENCE_SECONDS = 1
WAIT_SECONDS = 30.0
MIB = 1 << 20
READ_SIZE = 64 * 1024
ABSENT = f"{PREFIX}absent:1"

EXPECTED = Image("any:1", "linux/amd64", "", "sha256:" + "a" * 64, "sha256:" + "c" * 64, ("sha256:" + "1" * 64,))
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


def described(engine: DockerEngine, reference: str) -> Image:
    """Return the image under `reference` as an archive would describe it."""
    found = engine.find(reference)
    assert found is not None
    return replace(EXPECTED, reference=reference, config=found.id, layers=found.layers)


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
    ("image_id", "same"),
    [(EXPECTED.config, True), (EXPECTED.manifest, True), (OTHER_ID, False), (EXPECTED.layers[0], False), ("", False)],
    ids=["config", "manifest", "another", "layer", "none"],
)
def test_an_image_is_the_expected_one_only_by_its_id(image_id: str, same: bool) -> None:
    """Two reproducible builds may have the same layers and the same time, and differ in what they run."""
    assert EngineImage(image_id, EXPECTED.layers, 10, named=True).is_image_of(EXPECTED) is same


def test_find_describes_an_image(engine: DockerEngine, real: Engine) -> None:
    image = import_image(real, APP, random_mib=1)
    found = engine.find(APP)
    assert found is not None
    assert found.id == f"sha256:{image.removeprefix('sha256:')}"
    assert len(found.layers) == 1
    assert found.layers[0].startswith("sha256:")
    assert found.size > MIB
    assert found.named
    assert found.platform.startswith("linux/")


def test_find_returns_none_for_an_absent_image(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    assert engine.find(ABSENT) is None
    assert engine.find(APP + "1") is None


def test_holds_and_verify_require_exactly_the_expected_images(engine: DockerEngine, real: Engine) -> None:
    import_image(real, APP)
    import_image(real, DATABASE, seed=1)
    app, database = described(engine, APP), described(engine, DATABASE)
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
    images = [described(engine, APP), described(engine, DATABASE)]
    tar = list(engine.save([APP, DATABASE]))
    assert len(tar) > 1
    for reference in (APP, DATABASE):
        remove_image(real, reference)
    assert not engine.holds(images)

    signs: list[int] = []
    engine.load(iter(tar), signs.append)
    engine.verify(images)
    assert [image_id(real, image.reference) for image in images] == [image.config for image in images]
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
    image = described(engine, APP)
    other = import_image(docker, APP, seed=5)
    engine.load(iter(tar))
    assert image_id(docker, APP) == image.config
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


def test_the_engine_describes_itself(engine: DockerEngine, real: Engine) -> None:
    made = engine.describe()
    assert made.root is not None
    assert made.root.is_dir()
    import_image(real, APP)
    found = engine.find(APP)
    assert found is not None
    assert made.runs(found.platform)
    assert made.store is (Store.PODMAN if real.name == "podman" else Store.CLASSIC)
    # podman of the tests has its temporary files in its own directory.
    assert made.copies == (real.socket.parent if real.name == "podman" else None)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that describes itself as the test wants; no real one has each of these stores here."""
    with FakeEngine(tmp_path / "fake.sock", lambda call: call.respond(200, {})) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


@pytest.mark.parametrize("info", [(403, {"message": "forbidden"}), (200, {}), (200, {"DockerRootDir": ""})], ids=repr)
def test_an_engine_may_hide_what_it_is(fake: FakeEngine, info: tuple[int, dict[str, Any]]) -> None:
    fake.info = info
    assert DockerEngine(1).describe() == EngineDescription(None, Store.CLASSIC, "")


NO_DESCRIPTIONS = [[1], {"DockerRootDir": 5}, {"DriverStatus": [5]}, {"DriverStatus": 5}]


@pytest.mark.parametrize("document", NO_DESCRIPTIONS, ids=repr)
def test_an_engine_that_describes_itself_by_nonsense_is_refused(fake: FakeEngine, document: Any) -> None:
    fake.info = (200, document)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).describe()


@pytest.mark.parametrize("version", [{"Components": ["x"]}, {"Components": 5}], ids=repr)
def test_an_engine_whose_parts_are_nonsense_is_refused(fake: FakeEngine, version: dict[str, Any]) -> None:
    fake.version = version
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).describe()


@pytest.mark.parametrize("document", [{}, [], "x", {"Id": 5}, {"Id": "sha256:0", "RootFS": 5}], ids=repr)
def test_an_image_that_is_described_by_nonsense_is_refused(fake: FakeEngine, document: Any) -> None:
    fake.image = (200, document)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).find("a:1")


@pytest.mark.parametrize(
    "message",
    [[], "x", 5, {"progressDetail": 5}, {"id": [], "progressDetail": {}}, {"progressDetail": {"current": "x"}}],
)
def test_a_load_that_is_answered_by_nonsense_is_refused(fake: FakeEngine, message: object) -> None:
    fake.load = lambda call: call.respond(200, message)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).load(io.BytesIO(b"tar"))


def test_a_platform_without_its_architecture_is_not_known(fake: FakeEngine) -> None:
    fake.version = {"Os": "linux"}
    assert DockerEngine(1).describe().runs("linux/amd64")


@pytest.mark.parametrize(
    ("status", "store"),
    [
        ([["driver-type", "io.containerd.snapshotter.v1"]], Store.CONTAINERD),
        ([["Backing Filesystem", "extfs"], ["driver-type", "io.containerd.snapshotter.v1"]], Store.CONTAINERD),
        ([["Backing Filesystem", "extfs"]], Store.CLASSIC),
        ([], Store.CLASSIC),
        (None, Store.CLASSIC),
    ],
)
def test_the_description_tells_the_store(fake: FakeEngine, status: object, store: Store) -> None:
    fake.info = (200, {"DockerRootDir": "/x", "DriverStatus": status})
    assert DockerEngine(1).describe() == EngineDescription(Path("/x"), store, "")


def test_a_podman_may_hide_where_it_copies_what_it_loads(fake: FakeEngine) -> None:
    fake.version = {"Components": [{"Name": "Podman Engine"}], "Os": "linux", "Arch": "arm64"}
    fake.info = (200, {"DockerRootDir": "/x"})
    assert DockerEngine(1).describe() == EngineDescription(Path("/x"), Store.PODMAN, "linux/arm64")


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_engine_that_is_down_does_not_describe_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        connected(f"unix://{tmp_path}/absent.sock", monkeypatch).describe()


def test_an_image_gets_a_further_name(engine: DockerEngine, real: Engine) -> None:
    made = import_image(real, APP)
    engine.name(APP, DATABASE)
    assert image_id(real, DATABASE) == made

    # A name that another image has moves.
    other = import_image(real, DATABASE, seed=5)
    engine.name(APP, DATABASE)
    assert image_id(real, DATABASE) == made
    real.client.images.remove(other, force=True)

    with pytest.raises(EngineRejected):
        engine.name(ABSENT, DATABASE)


def test_a_full_name_stands_for_the_short_one(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connected(docker.host, monkeypatch)
    import_image(docker, APP)
    found = engine.find(f"docker.io/{APP}")
    assert found == engine.find(APP) is not None
    engine.name(f"docker.io/{APP}", f"docker.io/{DATABASE}")
    assert tags_of_tests(docker) == [APP, DATABASE]


HANDMADE = (
    HandmadeImage(APP, (HandmadeLayer(b"base" * 256, 64), HandmadeLayer(b"top" * 256, 64)), {"Env": ["MODE=1"]}),
    HandmadeImage(DATABASE, (HandmadeLayer(b"base" * 256, 64),)),
)


@contextmanager
def unsealed(path: Path, images: Sequence[HandmadeImage]) -> Iterator[Contents]:
    """Yield the authenticated contents of an archive of `images`."""
    with open_archive(seal(path, images)) as archive:
        contents = archive.unseal(FRAGMENT, lambda: None)
        for digest in archive.head.blob:
            for _ in contents.authenticate(digest):
                pass
        yield contents


def test_layouts_are_loaded_as_exactly_the_images_of_the_archive(
    engine: DockerEngine, real: Engine, tmp_path: Path
) -> None:
    """The second layout leaves out its only layer, because the first one has brought it."""
    with unsealed(tmp_path / "images.enc", HANDMADE) as contents:
        for layout in layouts_of(contents.head, set()):
            engine.load(contents.layout(layout, contents.content))
            engine.verify([layout.image])
        assert engine.holds(contents.head.images)
    for image in HANDMADE:
        found = engine.find(image.image.reference)
        assert found is not None
        assert found.id == image.image.config
        assert found.layers == image.image.layers
    app = real.client.images.get(f"docker.io/{APP}")
    assert app.attrs["Config"]["Env"] == ["MODE=1"]


def test_a_layout_without_a_layer_that_the_engine_lacks_is_refused(
    engine: DockerEngine, real: Engine, tmp_path: Path
) -> None:
    with unsealed(tmp_path / "images.enc", HANDMADE) as contents:
        image = contents.head.images[0]
        for sent in (image.layers[1:], ()):
            with pytest.raises(EngineRejected):
                engine.load(contents.layout(Layout(contents.head, image, sent), contents.content))
            assert engine.find(image.reference) is None
    assert tags_of_tests(real) == []
    assert unnamed_images(real) == []


@pytest.mark.parametrize("part", ["config", "layer"])
def test_a_layout_whose_content_is_not_that_of_its_digest_is_refused(
    engine: DockerEngine, real: Engine, tmp_path: Path, part: str
) -> None:
    """With gzip the head proves only the sealed bytes, so that the engine must notice what they inflate to."""
    app = HANDMADE[0]
    digest = app.image.config if part == "config" else app.image.layers[1]
    content = bytearray(b"".join(app.contents()[digest]))
    content[content.index(b"MODE=1" if part == "config" else b"top")] ^= 1
    path = seal(tmp_path / "images.enc", [app], codec=GZIP, lies={digest: bytes(content)})
    with open_archive(path) as archive, pytest.raises((EngineRejected, ArchiveCorrupt)):
        load_all(engine, archive)
    assert tags_of_tests(real) == []
    assert unnamed_images(real) == []


def load_all(engine: DockerEngine, archive: Archive) -> None:
    contents = archive.unseal(FRAGMENT, lambda: None)
    for layout in layouts_of(archive.head, set()):
        for digest in layout.blobs:
            for _ in contents.authenticate(digest):
                pass
        engine.load(contents.layout(layout, contents.content))


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
    monkeypatch.setattr("loader.docker_engine.connection.PING_TIMEOUT", 0.3)
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
