"""Unlocks that fail at the engine: it is down, refuses, falls silent or dies during a load."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from loader.crypto.archive_head import GZIP
from tests.support.archives import APP, DATABASE, Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.fake_engine import FakeCall, FakeEngine, Load
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id, import_image, remove_image, unnamed_images
from tests.support.processes import poll
from tests.support.recording_proxy import RecordingProxy
from tests.support.unlocking import LOAD, READY, Rig, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
SILENCE_SECONDS = "2"
WAIT_SECONDS = 30.0


def test_an_engine_that_is_down_ends_the_unlock_until_it_is_up(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, tmp_path: Path
) -> None:
    socket = tmp_path / "late.sock"
    unlock_device.put(packed.path)
    operator = unlock_device.start(f"unix://{socket}")
    assert_failed(operator.unlock(), "ENGINE_UNAVAILABLE")
    assert unlock_device.api.requests() == []
    with RecordingProxy(socket, docker.socket):
        assert operator.unlock() == READY
    # The engine stops and starts again, so that the old connections cannot be used any more.
    socket.unlink()
    unlock_device.put(packed.path)
    assert_failed(operator.unlock(), "ENGINE_UNAVAILABLE")
    with RecordingProxy(socket, docker.socket):
        assert operator.unlock().state == "ready"


def test_an_engine_that_disconnects_during_a_load_keeps_nothing(
    unlock_device: UnlockDevice, wire: FaultyWire, docker: Engine, packed: Packed
) -> None:
    wire.hold_upload(after=2 * MIB)
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host)
    operator.post()
    wire.wait_until_held()
    wire.cut()
    assert_failed(operator.rest(), "ENGINE_UNAVAILABLE")
    assert not unlock_device.tar.exists()
    assert tags_of_tests(docker) == []
    wire.heal()
    assert operator.unlock() == READY


def test_an_engine_that_takes_no_more_bytes_has_stalled(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed
) -> None:
    wire.hold_upload(after=MIB)
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert_failed(operator.unlock(), "ENGINE_STALLED")
    assert not unlock_device.tar.exists()
    wire.heal()
    assert operator.unlock() == READY


def test_an_engine_that_never_responds_has_stalled(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed
) -> None:
    # The wire holds the last bytes of the first tar, so that the engine waits for them and the loader for the engine.
    wire.hold_upload(after=packed.sent[0])
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert_failed(operator.unlock(), "ENGINE_STALLED")
    assert not unlock_device.tar.exists()


def test_a_silent_engine_that_has_the_images_has_succeeded(
    unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed
) -> None:
    wire.hold_response()
    unlock_device.put(packed.path)
    operator = unlock_device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
    assert operator.unlock() == READY
    assert not unlock_device.tar.exists()
    assert len(wire.sent("POST", LOAD)) == len(packed.sent)


def test_a_slow_engine_has_not_stalled(unlock_device: UnlockDevice, wire: FaultyWire, packed: Packed) -> None:
    wire.slow_upload(pause_seconds=0.06)  # about three seconds for the whole tar
    unlock_device.put(packed.path)
    assert unlock_device.start(wire.host, ENGINE_TIMEOUT=SILENCE_SECONDS).unlock() == READY


def start_stream(call: FakeCall) -> None:
    """Send the head of a response that consists of messages, as a real engine does."""
    call.send_response(200)
    call.send_header("Transfer-Encoding", "chunked")
    call.end_headers()


def send_message(call: FakeCall, message: object) -> None:
    """Send one message as its own chunk."""
    send_chunk(call, json.dumps(message).encode() + b"\r\n")


def send_chunk(call: FakeCall, data: bytes) -> None:
    call.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def end_stream(call: FakeCall) -> None:
    """End the response properly."""
    call.wfile.write(b"0\r\n\r\n")


def respond_half(call: FakeCall, body: bytes) -> None:
    """Send a valid head and `body` as the first chunk, then cut the connection."""
    start_stream(call)
    send_chunk(call, body)
    call.close_connection = True


def test_an_engine_that_sends_messages_has_not_stalled(
    unlock_device: UnlockDevice, packed: Packed, tmp_path: Path
) -> None:
    """The engine takes longer than it may be silent, and sends messages all the time."""
    rounds, pause = 12, float(SILENCE_SECONDS) / 8
    never = threading.Event()

    def slow(call: FakeCall) -> None:
        start_stream(call)
        for number in range(rounds):
            never.wait(pause)
            send_message(call, {"id": "1", "progressDetail": {"current": number, "total": rounds}})
        end_stream(call)

    unlock_device.put(packed.path)
    with FakeEngine(tmp_path / "fake.sock", slow) as engine:
        operator = unlock_device.start(engine.host, ENGINE_TIMEOUT=SILENCE_SECONDS)
        started = time.monotonic()
        status = operator.unlock()
        assert time.monotonic() - started > rounds * pause
        assert_failed(status, "IMAGE_MISMATCH")  # the fake engine reports a load, but has no image


def test_an_engine_that_falls_silent_between_messages_has_stalled(
    unlock_device: UnlockDevice, packed: Packed, tmp_path: Path
) -> None:
    over = threading.Event()

    def falls_silent(call: FakeCall) -> None:
        start_stream(call)
        send_message(call, {"id": "1", "progressDetail": {"current": 1, "total": 2}})
        over.wait(WAIT_SECONDS)

    unlock_device.put(packed.path)
    with FakeEngine(tmp_path / "fake.sock", falls_silent) as engine:
        assert_failed(unlock_device.start(engine.host, ENGINE_TIMEOUT=SILENCE_SECONDS).unlock(), "ENGINE_STALLED")
        over.set()


# Each content is its own, so that a test finds it in a tar.
SMALL = HandmadeImage(APP, (HandmadeLayer(b"a" * 4096),))
SECOND = HandmadeImage(DATABASE, (HandmadeLayer(b"b" * 4096),))


def lying(path: Path, *images: HandmadeImage) -> None:
    """Seal `images`, of which the last has a layer that does not have its digest. With gzip only the engine sees it."""
    layer = images[-1].image.layers[0]
    content = b"".join(images[-1].contents()[layer])
    seal(path, images, codec=GZIP, lies={layer: content.replace(b"bbbb", b"cccc").replace(b"aaaa", b"dddd")})


@pytest.mark.parametrize("present", [True, False], ids=["replaced", "new"])
def test_an_image_whose_layer_has_another_digest_does_not_stay(rig: Rig, present: bool) -> None:
    lying(rig.device.archive, SMALL)
    before = [import_image(rig.engine, APP)] if present else []
    assert_failed(rig.operator.unlock(), "ENGINE_REJECTED")
    assert [found.id for found in rig.engine.client.images.list(APP)] == before
    assert unnamed_images(rig.engine) == []
    assert len(rig.loads) == 1  # it had all layers, so that nothing is sent once more


def test_no_image_stays_if_one_of_two_is_corrupt(rig: Rig) -> None:
    lying(rig.device.archive, SMALL, SECOND)
    before = import_image(rig.engine, DATABASE)
    assert_failed(rig.operator.unlock(), "ENGINE_REJECTED")
    assert len(rig.loads) == 2
    assert tags_of_tests(rig.engine) == [DATABASE]
    assert image_id(rig.engine, DATABASE) == before
    assert unnamed_images(rig.engine) == []

    seal(rig.device.archive, [SMALL, SECOND])
    assert rig.operator.unlock() == READY
    assert unnamed_images(rig.engine) == []


def test_podman_keeps_nothing_of_an_image_whose_layer_has_another_digest(
    unlock_device: UnlockDevice, podman: Engine
) -> None:
    lying(unlock_device.archive, SMALL)
    before = import_image(podman, SMALL.image.reference)
    operator = unlock_device.start(podman.host)
    assert_failed(operator.unlock(), "ENGINE_REJECTED")
    assert image_id(podman, SMALL.image.reference) == before
    assert unnamed_images(podman) == []


def test_a_tar_that_someone_changes_while_it_is_sent_leaves_no_image(rig: Rig, packed: Packed) -> None:
    """Only the owner of the loader can do that; the loader sees the time of the change."""
    rig.unlock_until_held(packed.path, MIB)
    with rig.device.tar.open("r+b") as tar:
        tar.seek(packed.sent[0] - MIB // 2)
        tar.write(b"\0" * 1000)
    rig.wire.release()
    assert_failed(rig.operator.rest(), "STORAGE_ERROR")
    assert not rig.device.tar.exists()
    assert tags_of_tests(rig.engine) == []
    assert unnamed_images(rig.engine) == []


def test_a_tar_that_someone_cuts_while_it_is_sent_leaves_no_image(rig: Rig, packed: Packed) -> None:
    rig.unlock_until_held(packed.path, MIB)
    os.truncate(rig.device.tar, packed.sent[0] - MIB // 2)
    rig.wire.release()
    assert_failed(rig.operator.rest(), "STORAGE_ERROR")
    assert not rig.device.tar.exists()
    assert tags_of_tests(rig.engine) == []


def test_an_image_that_is_removed_right_after_its_load_ends_the_unlock(rig: Rig, packed: Packed) -> None:
    """Nothing is sent on top of an image that another client has removed."""
    rig.wire.hold_response()
    rig.device.put(packed.path)
    rig.operator.post()
    rig.wire.wait_until_held()
    poll(lambda: tags_of_tests(rig.engine) == [APP], WAIT_SECONDS, "the first image is loaded")
    remove_image(rig.engine, APP)
    rig.wire.release()
    assert_failed(rig.operator.rest(), "IMAGE_MISMATCH")
    assert tags_of_tests(rig.engine) == []
    assert len(rig.loads) == 1


def server_error(call: FakeCall) -> None:
    call.respond(500, {"message": "layers/1:\nsomething broke."})


def full_disk(call: FakeCall) -> None:
    call.respond(200, {"errorDetail": {"message": "write /var/lib/docker/tmp/x: no space left on device"}})


def full_disk_of_podman(call: FakeCall) -> None:
    call.respond(500, {"message": "unable to load image: write /var/tmp/x:\nno space left on device."})


def error_without_detail(call: FakeCall) -> None:
    call.respond(200, {"errorDetail": {"code": 7}, "error": "something broke"})


def error_after_progress(call: FakeCall) -> None:
    progress = {"id": "1", "progressDetail": {"current": 5, "total": 9}}
    start_stream(call)
    send_message(call, progress)
    send_message(call, {"errorDetail": {"message": "something broke"}, "error": "something broke"})
    end_stream(call)


def nothing_at_all(call: FakeCall) -> None:
    call.close_connection = True


def half_a_message(call: FakeCall) -> None:
    respond_half(call, b'{"stream": "Loaded im')


def one_message_then_nothing(call: FakeCall) -> None:
    respond_half(call, b'{"stream": "Loading"}\n')


def no_json(call: FakeCall) -> None:
    call.respond_bytes(200, b"<html>a proxy's page</html>")


def success(call: FakeCall) -> None:
    call.respond(200, {"stream": f"Loaded image: {APP}\n"})


UNEXPECTED_RESPONSES: dict[Load, str] = {
    server_error: "ENGINE_REJECTED",
    full_disk: "DISK_SPACE",
    full_disk_of_podman: "DISK_SPACE",
    error_without_detail: "ENGINE_REJECTED",
    error_after_progress: "ENGINE_REJECTED",
    nothing_at_all: "ENGINE_UNAVAILABLE",
    half_a_message: "ENGINE_UNAVAILABLE",
    one_message_then_nothing: "ENGINE_UNAVAILABLE",
    no_json: "ENGINE_UNAVAILABLE",
    success: "IMAGE_MISMATCH",  # the fake engine has no image
}


def test_unexpected_responses_to_a_load_end_the_unlock(
    unlock_device: UnlockDevice, packed: Packed, tmp_path: Path
) -> None:
    unlock_device.put(packed.path)
    with FakeEngine(tmp_path / "fake.sock", success) as engine:
        operator = unlock_device.start(engine.host)
        for respond, code in UNEXPECTED_RESPONSES.items():
            engine.load = respond
            status = operator.unlock()
            assert_failed(status, code)
            assert ("something broke" in str(status.error)) is (code == "ENGINE_REJECTED")
            assert ("no space left on device" in str(status.error)) is (code == "DISK_SPACE")
            assert not unlock_device.tar.exists()
            assert not unlock_device.remembered.exists()
