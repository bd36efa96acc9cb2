"""The programs of Debian 13 on an older Debian, for engines that are newer than those of this machine.

Some 450 MB, made in half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.debian_root import debian_root, in_root

# /run is empty, because dockerd would use the containerd of this machine if it found its socket.
EMPTY_RUN = "mount -t tmpfs tmpfs /run; "


def in_debian_13(command: Sequence[str]) -> list[str]:
    """Return what runs `command` with the programs of Debian 13, as `in_root` does. Raises DebianUnavailable."""
    return in_root(debian_root("trixie", "--include=docker.io,podman"), command, EMPTY_RUN)
