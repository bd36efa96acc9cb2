"""The cost of each single step of a transfer, in milliseconds per GiB: no loader can be faster than its steps."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.tables import Figure, Figures
from benchmarks.workload import MIB, Workload
from loader.crypto.segments import NONCE_PREFIX_SIZE, SegmentCipher

PIECES = 256
SIZE = PIECES * MIB
GIB = 1 << 30
CIPHER = SegmentCipher(bytes(32), bytes(NONCE_PREFIX_SIZE))


def floors(work: Workload) -> Figures:
    """Measure each step in one thread, on pieces of 1 MiB in one buffer, as the steps of the loader work."""
    with work.place("floors") as place:
        steps = {
            "read a file that lies in memory": lambda: _read(work.data),
            "encrypt by AES-256-GCM, one core": _encrypt,
            "encrypt by AES-256-GCM, all cores": _encrypt_on_all_cores,
            "SHA-256": _hash,
            "copy": _copy,
            "send and receive, TCP on loopback": lambda: _send(*_tcp_pair()),
            "send and receive, unix socket": lambda: _send(*socket.socketpair()),
            "write a new file, not waiting for the disk": lambda: _write(place / "written"),
        }
        rounds = [[_milliseconds_a_gib(step) for step in steps.values()] for _ in range(1 + work.rounds)][1:]
    values = zip(*rounds, strict=True)
    rows = [Figure(name, "ms/GiB", taken) for name, taken in zip(steps, values, strict=True)]
    return Figures("floors: what the steps of a transfer cost by themselves", tuple(rows), ())


def _milliseconds_a_gib(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - started) * GIB / SIZE


def _buffer() -> memoryview:
    return memoryview(bytearray(MIB))


def _read(path: Path) -> None:
    buffer, left = _buffer(), SIZE
    while left:
        with path.open("rb", buffering=0) as file:
            while left and (count := file.readinto(buffer)):
                left -= min(left, count)


def _encrypt(pieces: int = PIECES) -> None:
    buffer = _buffer()
    for number in range(pieces):
        CIPHER.seal(number, False, buffer)


def _encrypt_on_all_cores() -> None:
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(_encrypt, [PIECES // cores] * cores))


def _hash() -> None:
    buffer, digest = _buffer(), hashlib.sha256()
    for _ in range(PIECES):
        digest.update(buffer)


def _copy() -> None:
    source, target = _buffer(), _buffer()
    for _ in range(PIECES):
        target[:] = source


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        return sender, listener.accept()[0]


def _send(sender: socket.socket, receiver: socket.socket) -> None:
    def send() -> None:
        buffer = _buffer()
        for _ in range(PIECES):
            sender.sendall(buffer)

    with sender, receiver:
        thread = threading.Thread(target=send)
        thread.start()
        buffer, left = _buffer(), SIZE
        while left:
            left -= receiver.recv_into(buffer)
        thread.join()


def _write(path: Path) -> None:
    buffer = _buffer()
    with path.open("wb", buffering=0) as file:
        for _ in range(PIECES):
            file.write(buffer)
    path.unlink()
