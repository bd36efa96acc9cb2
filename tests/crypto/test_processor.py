"""The cipher uses the instructions that the processor has for it, because it is many times slower without them."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.crypto.segments import SegmentCipher

# The bits of getauxval(AT_HWCAP) on ARM64, from Linux' asm/hwcap.h.
AT_HWCAP = 16
HWCAP_AES, HWCAP_PMULL = 1 << 3, 1 << 4


def on_arm(bit: int) -> Callable[[], bool]:
    return lambda: bool(ctypes.CDLL(None).getauxval(AT_HWCAP) & bit)


def on_x86(flag: str) -> Callable[[], bool]:
    return lambda: flag in Path("/proc/cpuinfo").read_text().split()


# The libraries of the cipher's package by the processor, with what the processor must have.
LIBRARIES = {
    "aarch64": {"_raw_aes_armv8": on_arm(HWCAP_AES), "_ghash_pmull": on_arm(HWCAP_PMULL)},
    "x86_64": {"_raw_aesni": on_x86("aes"), "_ghash_clmul": on_x86("pclmulqdq")},
}
OF_THIS_PROCESSOR = LIBRARIES.get(platform.machine(), {})


@pytest.mark.parametrize("library", OF_THIS_PROCESSOR)
def test_the_library_for_the_instructions_of_the_processor_is_loaded(library: str) -> None:
    SegmentCipher(bytes(32), bytes(7)).seal(0, True, memoryview(bytearray(1024)))
    loaded = f"/{library}." in Path("/proc/self/maps").read_text()
    assert loaded is OF_THIS_PROCESSOR[library]()
