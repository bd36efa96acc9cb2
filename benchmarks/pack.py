"""The packing of an image, compared with `docker save` from the same engine to the same disk."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.decrypt import openssl_encrypt
from benchmarks.devices import IMAGE, docker, make_image, new_key, pack_command
from benchmarks.measure import Contender, compare
from benchmarks.peers import piped, process
from benchmarks.servers import private_dockerd
from benchmarks.tables import Result
from benchmarks.workload import Workload
from tests.support.engines import Engine
from tests.support.processes import clean_env


def pack(work: Workload) -> Result:
    """Compare `images pack` with `docker save` into a file, plain and encrypted."""
    with ExitStack() as running:
        place = running.enter_context(work.place("pack"))
        engine = running.enter_context(private_dockerd())
        make_image(engine, work.data, place)
        ours = _written("loader images pack", work.mib, engine, place, pack_command(new_key(place), place / "output"))
        peers = [partial(_save, work.mib, engine, place), partial(_save_encrypted, work.mib, engine, place)]
        return compare("pack an image", work.rounds, ours, peers)


def _save(mib: int, engine: Engine, place: Path) -> Contender:
    command = [*docker(engine), "save", "-o", str(place / "output"), IMAGE]
    return _written("docker save -o, in plain", mib, engine, place, command)


def _save_encrypted(mib: int, engine: Engine, place: Path) -> Contender:
    command = piped([*docker(engine), "save", IMAGE], [*openssl_encrypt(), "-out", str(place / "output")])
    return _written("docker save piped to openssl enc -aes-256-ctr", mib, engine, place, command)


def _written(name: str, mib: int, engine: Engine, place: Path, command: list[str]) -> Contender:
    """Return a contender whose `command` writes `output` in `place`; the command finds the engine by itself."""
    forget = partial((place / "output").unlink, missing_ok=True)
    return process(name, mib, command, forget, clean_env(place, DOCKER_HOST=engine.host))
