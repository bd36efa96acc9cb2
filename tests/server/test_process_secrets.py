"""What of a loader could be seen from outside its memory: core dumps, children, arguments, environment, open files."""

from __future__ import annotations

import ast
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_calls import CREDENTIALS, call, load, login, post_json, upload
from tests.support.processes import poll
from tests.support.procfs import descendants, open_descriptors
from tests.support.sites import Site, real_site

ROOT = Path(__file__).parents[2]
SECONDS = 20
STARTS_PROCESSES = {
    *("subprocess", "multiprocessing", "pty", "concurrent.futures.process"),
    *("os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.posix_spawnp"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader that is logged in and has done everything once, started where cores may be as large as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    with real_site(tmp_path_factory.mktemp("process")) as running:
        upload(running.url, "m", "x", bytes(3_000_000))
        assert load(running.url, "m", "x").status == 200
        (running.models.parent / "images.enc").write_bytes(b"AZIMAGE2 and nothing of use")
        post_json(running.url, "/unlock", CREDENTIALS)
        running.next_audit_line("unlock", 0)
        yield running
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_crash_leaves_no_image_of_the_memory(site: Site) -> None:
    def core_limits(pid: int) -> list[str]:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]

    assert core_limits(site.loader.worker_pid) == ["0", "0"]
    assert core_limits(site.loader.master_pid) == core_limits(os.getpid())


def test_the_worker_is_the_only_child_and_has_none(site: Site) -> None:
    assert descendants(site.loader.master_pid) == [site.loader.worker_pid]


def test_arguments_and_environment_hold_no_secret(site: Site) -> None:
    tokens = {request.headers.get("AUTHORIZATION", "").removeprefix("Bearer ") for request in site.api.requests()}
    secrets = {CREDENTIALS["password"], *tokens} - {""}
    assert len(secrets) > 1
    for pid in (site.loader.master_pid, site.loader.worker_pid):
        seen = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm"))
        assert not [secret for secret in secrets if secret.encode() in seen]


def test_lock_leaves_nothing_open_that_the_login_opened(site: Site) -> None:
    assert login(site.url).status == 200
    assert load(site.url, "m", "x").status == 200
    assert call(site.url, "POST", "/lock").status == 200

    def open_parts() -> list[str]:
        names = open_descriptors(site.loader.worker_pid).values()
        # It keeps the directories themselves open, to lock them.
        return [name for name in names if name.startswith(str(site.models.parent)) and not Path(name).is_dir()]

    poll(lambda: not open_parts(), SECONDS, "no part is open")


def names_used(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def starts_processes(source: str) -> set[str]:
    used = set(names_used(ast.parse(source)))
    return {name for name in used if name in STARTS_PROCESSES or re.match(r"os\.(exec|spawn)", name)}


@pytest.mark.parametrize("path", sorted((ROOT / "loader").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_of_the_loader_starts_a_process(path: Path) -> None:
    assert not starts_processes(path.read_text())


@pytest.mark.parametrize(
    "source", ["import subprocess", "from os import fork", "import os\nos.execv('x', [])", "import os\nos.system('x')"]
)
def test_code_that_starts_a_process_would_be_found(source: str) -> None:
    assert starts_processes(source)
