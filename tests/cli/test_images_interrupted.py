"""Packs that are interrupted or watched: the previous archive stays, and nothing else; the disk has no plaintext."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.packing_runs import invoke
from tests.support.archives import APP, Packed
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.images import import_image
from tests.support.loader_server import REPOSITORY
from tests.support.processes import ManagedProcess, clean_env
from tests.support.procfs import open_descriptors

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
END_SECONDS = 20.0
MARKER = b"a secret of the makers, in plaintext "


def start_pack(wire: FaultyWire, key: Path, output: Path, home: Path) -> ManagedProcess:
    arguments = ("images", "pack", APP, "--compress", "none", "--key", str(key), "-o", str(output))
    return ManagedProcess(
        "pack",
        [sys.executable, "-m", "loader", *arguments],
        home,
        env=clean_env(home, DOCKER_HOST=wire.host),
        cwd=REPOSITORY,
    )


def interrupt_pack(docker: Engine, key: Path, output: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Pack an image, and send the signal while the engine sends the tar."""
    import_image(docker, APP, random_mib=3)
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=2 * MIB)
        with start_pack(wire, key, output, tmp_path) as process:
            wire.wait_until_held()
            process.send_signal(number)
            assert process.wait(END_SECONDS) != 0
    assert "Traceback" not in process.stderr()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pack_leaves_nothing(
    docker: Engine, key: Path, output: Path, tmp_path: Path, number: signal.Signals
) -> None:
    interrupt_pack(docker, key, output, tmp_path, number)
    assert list(output.parent.iterdir()) == []


def test_the_next_pack_removes_what_a_killed_pack_left(docker: Engine, key: Path, output: Path, tmp_path: Path) -> None:
    interrupt_pack(docker, key, output, tmp_path, signal.SIGKILL)
    assert output not in output.parent.iterdir()
    assert len(list(output.parent.iterdir())) == 1
    invoke("images", "pack", APP, "--key", key, "-o", output, engine=docker.host)
    assert list(output.parent.iterdir()) == [output]


def test_an_interrupted_pack_keeps_the_previous_archive(
    docker: Engine, packed: Packed, key: Path, output: Path, tmp_path: Path
) -> None:
    output.write_bytes(packed.path.read_bytes())
    import_image(docker, APP, random_mib=3)
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=2 * MIB)
        with start_pack(wire, key, output, tmp_path) as process:
            wire.wait_until_held()
            process.send_signal(signal.SIGINT)
            assert process.wait(END_SECONDS) == 1
    assert invoke("images", "verify", output, "--key", key).exit_code == 0
    assert list(output.parent.iterdir()) == [output]


def files_of(pid: int, directory: Path) -> list[bytes]:
    """Read all files in `directory`, also unnamed ones that `pid` has open. No file may vanish meanwhile."""
    named = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    numbers = [number for number, target in open_descriptors(pid).items() if target.startswith(str(directory))]
    return named + [Path(f"/proc/{pid}/fd/{number}").read_bytes() for number in numbers]


def test_no_plaintext_touches_the_disk_while_packing(docker: Engine, key: Path, output: Path, tmp_path: Path) -> None:
    block = (MARKER * (MIB // len(MARKER) + 1))[:MIB]
    image = HandmadeImage(APP, (HandmadeLayer(block, 8),))
    docker.client.images.load(b"".join(docker_archive(image)))
    seen: list[bytes] = []
    with FaultyWire(tmp_path / "wire.sock", docker.socket, r"/images/get$") as wire:
        wire.hold_response(after=7 * MIB)
        with start_pack(wire, key, output, tmp_path) as process:
            wire.wait_until_held()
            process.wait_until(lambda: sum(map(len, files_of(process.pid, output.parent))) > MIB, END_SECONDS, "spool")
            seen += files_of(process.pid, output.parent)
            wire.release()
            while process.returncode is None:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it goes on meanwhile
                    seen += files_of(process.pid, output.parent)
    assert process.returncode == 0, process.stderr()
    seen.append(output.read_bytes())
    assert [number for number, content in enumerate(seen) if MARKER in content] == []
    assert invoke("images", "verify", output, "--key", key).exit_code == 0


def test_progress_is_printed_to_standard_error(packed: Packed, key: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loader", "images", "verify", str(packed.path), "--key", str(key)],
        cwd=REPOSITORY,
        env=clean_env(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "verifying" in done.stderr
    assert "verifying" not in done.stdout
