"""Engines that are down, silent or slow, and connections that break during a load or a save."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from loader.errors import EngineStalled, EngineUnavailable
from tests.docker_engine.connecting import SILENCE_SECONDS, WAIT_SECONDS, connected, cut_when_held, pieces
from tests.support.archives import APP, tags_of_tests
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.images import import_image, remove_image, save_images

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20


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
        engine = connected(f"unix://{tmp_path}/silent.sock", monkeypatch)

        def find() -> None:
            with suppress(EngineUnavailable):
                engine.find(APP)

        patient = threading.Thread(target=find)
        patient.start()
        with pytest.raises(EngineUnavailable):
            engine.ping()
        assert patient.is_alive()
    patient.join(WAIT_SECONDS)
    assert not patient.is_alive()
