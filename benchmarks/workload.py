"""The data that the benchmarks use, and the number of rounds."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
DEFAULT_MIB = 1024
DEFAULT_ROUNDS = 5
# The settings of a quick run, which checks that the benchmarks work; its figures are too rough to be compared.
QUICK = {"BENCH_MIB": "32", "BENCH_ROUNDS": "1"}
SEED = 20_240_229


class BadWorkload(Exception):
    """BENCH_MIB or BENCH_ROUNDS is not a positive whole number."""


@dataclass(frozen=True)
class Workload:
    """`data` is a file of `mib` MiB that do not compress. Benchmarks write all their files below `directory`."""

    directory: Path
    data: Path
    mib: int
    rounds: int

    @contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """Yield a new directory below `directory`, and remove it with its content after the block."""
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.directory) as place:
            yield Path(place)


@contextmanager
def workload(env: Mapping[str, str]) -> Iterator[Workload]:
    """Yield the workload that BENCH_MIB and BENCH_ROUNDS describe, in a new directory below TMPDIR.

    Raises BadWorkload if one of them is not a positive whole number.
    """
    mib, rounds = _positive(env, "BENCH_MIB", DEFAULT_MIB), _positive(env, "BENCH_ROUNDS", DEFAULT_ROUNDS)
    with tempfile.TemporaryDirectory(prefix="loader-bench-") as name:
        data = Path(name, "data.bin")
        _write_noise(data, mib)
        yield Workload(Path(name), data, mib, rounds)


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name, str(default))
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise BadWorkload(f"{name} must be a positive whole number, not {value!r}")
    return int(value)


def _write_noise(path: Path, mib: int) -> None:
    noise = random.Random(SEED)  # noqa: S311  every run needs the same bytes
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(noise.randbytes(MIB))
        os.fsync(file.fileno())
