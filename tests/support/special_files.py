"""What may stand under the name of a file and is none: pipes, sockets, devices, directories and links."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from tests.support.missing import missing


def _socket(path: Path) -> None:
    # The socket is bound by a short name, because an address has at most 107 bytes.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{directory}/{path.name}"[:107])
    finally:
        os.close(directory)


def _device(path: Path) -> None:
    if os.geteuid() != 0:
        missing("a device node", "making one needs root")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero


def _link_to_pipe(path: Path) -> None:
    target = path.with_name("pipe")
    os.mkfifo(target)
    path.symlink_to(target)


def _link_to_secret(path: Path) -> None:
    secret_beside(path).write_bytes(SECRET)
    path.symlink_to(secret_beside(path))


SECRET = b"root:secret\n"
# Each makes something of its kind under a name. Nothing of them can be read or written as the file that is meant.
SPECIAL_FILES: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "device": _device,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a pipe": _link_to_pipe,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a secret": _link_to_secret,
}


def secret_beside(path: Path) -> Path:
    """Return the file to which "link to a secret" links. Nobody may change it."""
    return path.with_name("secret")
