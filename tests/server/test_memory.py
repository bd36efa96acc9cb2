"""What freed memory costs to get again, seen by page faults, and what nested brackets cost."""

from __future__ import annotations

import subprocess
import sys

from loader.server.memory import STACK_SIZE
from tests.conftest import StartLoader
from tests.support.http_calls import call
from tests.support.loader_server import REPOSITORY
from tests.support.procfs import rss_bytes

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


def test_nested_brackets_cost_little_and_end_no_worker(start_loader: StartLoader) -> None:
    """The parser of Python 3.14 would fill a stack of 8 MiB, and a small stack would overflow under 3.12 and 3.13."""
    loader = start_loader()
    worker = loader.worker_pid
    assert call(loader.url, "POST", "/login", b"[", JSON).status == 400
    before = rss_bytes(worker)
    assert call(loader.url, "POST", "/login", b"[" * 60_000, JSON).status == 400
    assert loader.worker_pid == worker
    assert rss_bytes(worker) - before < 4 * STACK_SIZE
