"""What freed memory costs to get again, seen by page faults, and the size of the stacks of threads."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from loader.server.memory import STACK_SIZE
from tests.conftest import StartLoader
from tests.support.http_calls import call
from tests.support.loader_server import REPOSITORY

JSON = {"Content-Type": "application/json"}

PIECES = 500
PAGES_OF_A_PIECE = 256
# Five pieces at a time, as a transfer has them, each time freed together, in a thread as every request has one.
SCRIPT = f"""
import resource, threading
from loader.server.memory import keep_freed_memory
{{setting}}
def transfer():
    for _ in range({PIECES} // 5):
        pieces = [bytes(range(256)) * 4096 for _ in range(5)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(2):
    thread = threading.Thread(target=transfer)
    thread.start()
    thread.join()
print(faults() - before)
"""


def page_faults(setting: str) -> int:
    command = [sys.executable, "-c", SCRIPT.format(setting=setting)]
    return int(subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout)


def test_freed_pieces_are_used_again() -> None:
    assert page_faults("keep_freed_memory()") < 20 * PAGES_OF_A_PIECE


def test_without_the_setting_they_come_from_the_kernel_each_time() -> None:
    assert page_faults("") > PIECES * PAGES_OF_A_PIECE


def stacks(pid: int) -> list[int]:
    """Return the sizes in bytes of the stacks of threads: of the mappings above one page without any right."""
    ends: set[int] = set()
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if line.split()[1] == "---p" and end - begin == resource.getpagesize():
            ends.add(end)
        elif begin in ends and line.split()[1] == "rw-p":
            found.append(end - begin)
    return found


def test_threads_of_the_worker_have_small_stacks(start_loader: StartLoader) -> None:
    """So nested brackets, which Python 3.14 follows until a stack is full, cost at most 1 MiB for each thread."""
    loader = start_loader()
    nested = b"[" * 60_000
    assert {call(loader.url, "POST", "/login", nested, JSON).status for _ in range(4)} == {400}
    assert 0 < max(stacks(loader.worker_pid)) <= STACK_SIZE
