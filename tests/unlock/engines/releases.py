"""An old and a new release under the same names, the other images of a device, and what its containers run."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from loader.crypto.archive_head import GZIP
from loader.references import full_reference
from tests.support.archives import APP, DATABASE, PREFIX, VERSION
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal

MIB = 1 << 20
LARGE = 4 * MIB  # more than a loader reads ahead
NOISE = random.Random(26).randbytes(MIB)  # noqa: S311  every run needs the same bytes
# What x86-64 does until a signal ends it: pause(), once more and once more.
PAUSE = bytes.fromhex("b822000000 0f05 ebf7")
ADDRESS = 0x400000
ELF_SIZE, SEGMENT_SIZE = 64, 56


def pausing_program() -> bytes:
    """Return a program for x86-64 Linux that needs no library and waits for a signal. Source: the ELF-64 format."""
    start = ELF_SIZE + SEGMENT_SIZE
    size = start + len(PAUSE)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, ADDRESS + start, 64, 0, 0, ELF_SIZE, SEGMENT_SIZE, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, ADDRESS, size, size, 0x1000)
    return ident + head + segment + PAUSE


BASE = HandmadeLayer(pausing_program(), name="pause", mode=0o755)
SHARED = HandmadeLayer(NOISE[:50_000], name="shared.bin")
# The names are full, because podman puts others below `localhost`.
NAMES = (full_reference(APP), full_reference(DATABASE))


def release(note: bytes) -> tuple[HandmadeImage, HandmadeImage]:
    """Return a small and a larger image, which have their bottom layers in common with other releases."""
    small = HandmadeLayer(note * 1000, name="small.bin")
    large = HandmadeLayer(note.ljust(16, b".") + NOISE[:-16], LARGE // MIB, name="large.bin")
    settings = {"Cmd": ["/pause"], "Labels": {"release": note.decode()}}
    return (
        HandmadeImage(NAMES[0], (BASE, SHARED, small), settings),
        HandmadeImage(NAMES[1], (BASE, large), settings),
    )


OLD, NEW = release(b"old"), release(b"new")
# What else is on the device: an image with layers of the old release, and one that nothing shares.
OTHERS = (
    HandmadeImage(full_reference(f"{PREFIX}other:7"), OLD[0].layers, {"Labels": {"other": "7"}}),
    HandmadeImage(full_reference(f"{PREFIX}alone:{VERSION}"), (HandmadeLayer(b"alone"),)),
)
# Once this much of its layout has arrived, the engine works on the small image, or on the large one. The layouts lack
# the layers of the old release.
IN_FIRST, IN_SECOND = 5_000, 200_000


def seal_old(path: Path) -> Path:
    """Write the archive of the old release."""
    return seal(path, OLD, serial=1)


def seal_new(path: Path) -> Path:
    """Write the archive of the new release, whose serial number is larger."""
    return seal(path, NEW, serial=2)


def seal_with_wrong_layer(path: Path) -> Path:
    """Write another new release, whose large layer does not have its digest. With gzip only the engine can notice it.

    Nothing may load its true layer, because a containerd store that still has it would use it.
    """
    wrong = release(b"bad")
    content = b"".join(wrong[1].layers[-1].content())
    lies = {wrong[1].image.layers[-1]: content.replace(b"bad", b"odd")}
    return seal(path, wrong, serial=3, codec=GZIP, lies=lies)


def seal_with_wrong_settings(path: Path) -> Path:
    """Write a new release whose small image has another configuration than the archive says, of the same size."""
    config = NEW[0].image.config
    return seal(path, NEW, serial=2, codec=GZIP, lies={config: NEW[0].config.replace(b'"new"', b'"odd"')})
