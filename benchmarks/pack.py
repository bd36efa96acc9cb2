"""The packing of an image, compared with `docker save` from the same engine to the same disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.devices import docker
from benchmarks.images import BenchImage, new_key, pack_command, service_image
from benchmarks.measure import Contender, compare
from benchmarks.peers import piped, process, require_program
from benchmarks.servers import private_dockerd
from benchmarks.tables import Figure, Figures, Table
from benchmarks.workload import MIB, Workload
from tests.support.engines import Engine
from tests.support.processes import clean_env

GZIP = "loader images pack"
PLAIN = "loader images pack --compress none"


def pack(work: Workload) -> list[Table]:
    """Compare `images pack` with `docker save` into a file, plain and compressed, in time and in size."""
    with ExitStack() as running:
        place = running.enter_context(work.place("pack"))
        engine = running.enter_context(private_dockerd())
        image = service_image(engine, work, place)
        key = new_key(place)
        output = place / "output"

        def written(name: str, command: list[str]) -> Contender:
            env = clean_env(place, DOCKER_HOST=engine.host)
            return process(name, image.mib, command, partial(output.unlink, missing_ok=True), env)

        ours = written(GZIP, pack_command(key, output, image.name))
        plain = written(PLAIN, pack_command(key, output, image.name, "--compress", "none"))
        peers: list[Callable[[], Contender]] = [
            lambda: plain,
            lambda: written("docker save | gzip -6", _save_compressed(engine, output, image)),
            lambda: written("docker save into a file, with fsync", _save(engine, output, image)),
        ]
        both = compare("pack an image", work.rounds, ours, peers)
        sizes = _sizes([ours, plain, *(peer() for peer in peers[1:])], output)
    return [
        both.beside("pack an image, compressed", GZIP, slice(2, 3)),
        both.beside("pack an image, plain", PLAIN, slice(3, None)),
        sizes,
    ]


def _save_compressed(engine: Engine, output: Path, image: BenchImage) -> list[str]:
    require_program("gzip")
    return piped([*docker(engine), "save", image.name], ["gzip", "-6"], _synced(output))


def _save(engine: Engine, output: Path, image: BenchImage) -> list[str]:
    return piped([*docker(engine), "save", image.name], _synced(output))


def _synced(output: Path) -> list[str]:
    """Return a command that writes a file and syncs it, as the loader does before it reports success."""
    return ["dd", f"of={output}", "bs=1M", "iflag=fullblock", "conv=fsync", "status=none"]


def _sizes(contenders: list[Contender], output: Path) -> Figures:
    rows = []
    for contender in contenders:
        contender.prepare()
        contender.run()
        rows.append(Figure(contender.name, "MiB", (output.stat().st_size / MIB,)))
    return Figures("the size of the file", tuple(rows), ())
