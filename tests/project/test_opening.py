"""Files are opened by `open_regular` of `loader/files.py`, or with the reason that stands here."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.project.test_architecture import modules

# Calls that open a file by its name, beside the method `open` of a path.
FUNCTIONS = {"open", "os.open", "io.open", "io.FileIO"}
READERS = {"read_bytes", "read_text", "write_bytes", "write_text"}
MAKERS = {"NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryFile", "mkstemp"}
NEW = "makes a new file: no link is followed, and nothing that exists is opened"
NAMED = "the caller of the command line names the file, and may name a pipe"
ALLOWED = {
    ("loader.files", "os.open"): "this is open_regular itself",
    ("loader.files", "tempfile.mkstemp"): NEW,
    ("loader.model_cache.directory", "tempfile.NamedTemporaryFile"): NEW,
    ("loader.uploads.model", "tempfile.TemporaryFile"): NEW,
    ("loader.cli.key", "os.open"): NEW,
    ("loader.unlock.tar_file", "os.open"): NEW,
    ("loader.cli.sending", "self._path.open"): NAMED,
    ("loader.cli.key", "path.open"): NAMED,
    ("loader.cli.audit_log", "path.open"): NAMED,
    ("loader.cli.signing", "path.open"): NAMED,
    ("loader.packing.sources", "path.open"): NAMED,
    ("loader.packing.members", "os.open"): "relative to an open directory, without following a link",
    ("loader.docker_engine.address", "os.open"): "nothing is read; the certificates are only tried",
    ("loader.server.one_loader", "os.open"): "only a directory is opened",
    ("loader.install", "os.open"): "only a directory is opened",
    ("loader.server.log_handler", "os.open"): "the standard error of the process is opened once more",
    ("loader.cli.main", "Path(os.devnull).open"): "the device that takes everything",
    ("loader.web.page", "path.read_bytes"): "a file of the package",
    ("loader.web.page", "OPENAPI_PATH.read_bytes"): "a file of the package",
}

# Modules that wrap descriptors of `open_regular`.
DESCRIPTORS = {"loader.binary_split", "loader.blob_directory", "loader.fetch.sources", "loader.packing.members"}


def opened_by_name(tree: ast.AST) -> Iterator[str]:
    """Yield each call that opens a file by its name, as it stands in the code."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        is_method = last == "open" and (not node.args or _is_mode(node.args[0]))
        if is_method or called in FUNCTIONS or last in READERS | MAKERS:
            yield called


def _is_mode(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Constant) and isinstance(argument.value, str)


def is_of_descriptor(called: str, name: str) -> bool:
    """Return whether a call only wraps a descriptor that `open_regular` has returned."""
    return called == "io.FileIO" and name in DESCRIPTORS


def found() -> set[tuple[str, str]]:
    return {
        (name, called)
        for name, tree in modules("loader").items()
        for called in opened_by_name(tree)
        if not is_of_descriptor(called, name)
    }


def test_every_file_is_opened_by_the_one_function_or_for_a_reason() -> None:
    assert found() == set(ALLOWED)


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("open(path)", ["open"]),
        ("path.open()", ["path.open"]),
        ("path.open('rb')", ["path.open"]),
        ("os.open(path, flags)", ["os.open"]),
        ("self.a.read_text('ascii')", ["self.a.read_text"]),
        ("path.write_bytes(b'')", ["path.write_bytes"]),
        ("tempfile.mkstemp()", ["tempfile.mkstemp"]),
        ("cipher.open(number, last, piece)", []),
        ("open_regular(path)", []),
    ],
)
def test_the_search_finds_every_way_to_open_a_file(code: str, called: list[str]) -> None:
    assert list(opened_by_name(ast.parse(code))) == called
