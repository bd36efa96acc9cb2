"""Unlocks that end at the engine: it is down, refuses, falls silent or dies in the middle of a load."""

from __future__ import annotations

from pathlib import Path

from tests.support.archives import APP, Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.fake_engine import FakeCall, FakeEngine, Load
from tests.support.faulty_wire import FaultyWire
from tests.support.recording_proxy import RecordingProxy
from tests.support.unlocking import LOAD, READY, Device, Status, is_sentence

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
SILENCE_SECONDS = "2"


def assert_failed(status: Status, code: str) -> None:
    assert (status.state, status.code) == ("error", code)
    assert is_sentence(status.error)


def test_an_engine_that_is_down_ends_the_unlock_until_it_is_up(
    device: Device, docker: Engine, packed: Packed, tmp_path: Path
) -> None:
    socket = tmp_path / "late.sock"
    device.put(packed.path)
    operator = device.start(f"unix://{socket}")
    assert_failed(operator.unlock(), "ENGINE_UNAVAILABLE")
    assert device.api.requests() == []
    with RecordingProxy(socket, docker.socket):
        assert operator.unlock() == READY
    # And down and up again: the connections of before are of no use.
    socket.unlink()
    device.put(packed.path)
    assert_failed(operator.unlock(), "ENGINE_UNAVAILABLE")
    with RecordingProxy(socket, docker.socket):
        assert operator.unlock().state == "ready"


def test_an_engine_that_goes_away_in_the_middle_of_a_load_keeps_nothing(
    device: Device, wire: FaultyWire, docker: Engine, packed: Packed
) -> None:
    wire.hold_upload(after=2 * MIB)
    device.put(packed.path)
    operator = device.start(wire.host)
    operator.post()
    wire.wait_until_held()
    wire.cut()
    assert_failed(operator.rest(), "ENGINE_UNAVAILABLE")
    assert not device.tar.exists()
    assert tags_of_tests(docker) == []
    wire.heal()
    assert operator.unlock() == READY


def test_an_engine_that_takes_no_more_bytes_has_stalled(device: Device, wire: FaultyWire, packed: Packed) -> None:
    wire.hold_upload(after=MIB)
    device.put(packed.path)
    operator = device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert_failed(operator.unlock(), "ENGINE_STALLED")
    assert not device.tar.exists()
    wire.heal()
    assert operator.unlock() == READY


def test_an_engine_that_never_answers_has_stalled(device: Device, wire: FaultyWire, packed: Packed) -> None:
    # The last bytes of the tar are held: the engine waits for them, the loader for the engine.
    wire.hold_upload(after=packed.manifest.tar_size)
    device.put(packed.path)
    operator = device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert_failed(operator.unlock(), "ENGINE_STALLED")
    assert not device.tar.exists()


def test_an_engine_that_falls_silent_but_has_the_images_has_done_its_work(
    device: Device, wire: FaultyWire, packed: Packed
) -> None:
    wire.hold_answer()
    device.put(packed.path)
    operator = device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert operator.unlock() == READY
    assert not device.tar.exists()
    assert len(wire.sent("POST", LOAD)) == 1


def test_a_slow_engine_is_not_a_silent_one(device: Device, wire: FaultyWire, packed: Packed) -> None:
    wire.slow_upload(pause_seconds=0.06)  # about three seconds for the whole tar
    device.put(packed.path)
    assert device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS).unlock() == READY


def server_error(call: FakeCall) -> None:
    call.answer(500, {"message": "no space\nleft on device."})


def nothing_at_all(call: FakeCall) -> None:
    call.close_connection = True


def half_a_message(call: FakeCall) -> None:
    call.answer_half(b'{"stream": "Loaded im')


def one_message_then_nothing(call: FakeCall) -> None:
    call.answer_half(b'{"stream": "Loading"}\n')


def no_json(call: FakeCall) -> None:
    call.answer_bytes(200, b"<html>a proxy's page</html>")


def success(call: FakeCall) -> None:
    call.answer(200, {"stream": f"Loaded image: {APP}\n"})


STRANGE_ANSWERS: dict[Load, str] = {
    server_error: "ENGINE_REJECTED",
    nothing_at_all: "ENGINE_UNAVAILABLE",
    half_a_message: "ENGINE_UNAVAILABLE",
    one_message_then_nothing: "ENGINE_UNAVAILABLE",
    no_json: "ENGINE_UNAVAILABLE",
    success: "IMAGE_MISMATCH",  # and no image is there
}


def test_strange_answers_to_a_load_end_the_unlock(device: Device, packed: Packed, tmp_path: Path) -> None:
    device.put(packed.path)
    with FakeEngine(tmp_path / "fake.sock", success) as engine:
        operator = device.start(engine.host)
        for answer, code in STRANGE_ANSWERS.items():
            engine.answer_loads(answer)
            status = operator.unlock()
            assert_failed(status, code)
            assert (answer is server_error) == ("refused the images: no space left on device." in str(status.error))
            assert not device.tar.exists()
            assert not device.remembered.exists()
