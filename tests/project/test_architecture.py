"""The architecture: imports point down, no import is circular, and each outside library has one owner."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from loader.cli import images
from loader.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]

LAYERS = (
    {
        "background",
        "errors",
        "fetch_at",
        "setting_values",
        "settings",
        "last_events",
        "logs",
        "unlock_state",
        "files",
        "login_throttle",
        "patience",
        "publisher_keys",
        "references",
        "version",
    },
    {"crypto", "api_client", "docker_engine", "model_cache", "oci", "stored_blobs", "blob_directory"},
    {
        "accepted_models",
        "binary_split",
        "fetch",
        "held_blobs",
        "install",
        "model_list",
        "model_trust",
        "packing",
        "published",
        "resources",
        "sweep",
        "unattended_login",
        "unlock",
        "uploads",
    },
    {"server", "web", "cli"},
    {"app"},
    # "" is loader/__init__.py, which defines create_app
    {"", "__main__", "server.gunicorn_conf", "server.wsgi"},
)

OWNERS = {
    "requests": {"loader.api_client.transport"},
    "docker": {"loader.docker_engine.connection"},
    "gunicorn": {"loader.cli.serve", "loader.server.body", "loader.server.worker"},
    "multipart": {"loader.web.upload_form"},
    "prometheus_client": {"loader.web.metrics"},
    "pythonjsonlogger": {"loader.logs"},
    "urllib3": {
        "loader.api_client.reasons",  # for its timeouts, and to read the URLs that it has accepted
        "loader.api_client.connections",  # for deadlines, and for a timeout of each send
        "loader.api_client.redirects",  # for its parser of URLs
        "loader.api_client.responses",  # for the responses and exceptions that requests wraps
        "loader.api_client.transport",  # for the same
        "loader.docker_engine.connection",  # for the exceptions that the SDK lets through
    },
}
OWNED_BY_FOLDER = {
    "Crypto": "loader.crypto",
    "marshmallow": "loader.web",
    "werkzeug": "loader.web",
    "click": "loader.cli",
}


def paths(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def modules(package: str) -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text()) for name, path in paths(package).items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names of imported modules; `from a import b` yields `a` and `a.b`, because `b` may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# By name; to parse them all here would make every run of any test begin 0.8 s later.
LOADER = paths("loader")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def internal_imports(name: str) -> set[str]:
    """Return the modules of the loader that `name` imports at import time."""
    run_time = [node for node in modules("loader")[name].body if not is_type_checking(node)]
    found = {target for node in run_time for target in imports(node) if target in LOADER}
    # `from loader.x import y` also yields the package `loader`, which is no dependency, so a name counts only if no
    # other found name starts with it.
    return {target for target in found if not any(other.startswith(target + ".") for other in found)} - {name}


def layer(module: str) -> int:
    """Return the number of the layer that lists the module or, if none does, its folder."""
    name = module.partition(".")[2]
    named = [number for number, names in enumerate(LAYERS) if name in names]
    return named[0] if named else next(n for n, names in enumerate(LAYERS) if name.partition(".")[0] in names)


@pytest.mark.parametrize("name", LOADER)
def test_imports_point_down(name: str) -> None:
    upward = {target for target in internal_imports(name) if layer(target) > layer(name)}
    assert not upward


def test_no_import_is_circular() -> None:
    graph = {name: internal_imports(name) for name in LOADER}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", LOADER)
def test_each_outside_library_has_one_owner(name: str) -> None:
    for target in {target.partition(".")[0] for target in imports(modules("loader")[name])}:
        if target in OWNERS:
            assert name in OWNERS[target]
        elif target in OWNED_BY_FOLDER:
            assert name.startswith(OWNED_BY_FOLDER[target])
        elif target == "flask":
            assert name in {"loader", "loader.app"} or name.startswith("loader.web")
        else:
            assert target in sys.stdlib_module_names | {"loader", "_typeshed"}, f"{target} has no owner"


def test_each_owner_imports_its_library() -> None:
    used = {(target.partition(".")[0], name) for name, tree in modules("loader").items() for target in imports(tree)}
    assert {(library, name) for library, names in OWNERS.items() for name in names} <= used


@pytest.mark.parametrize(("package", "other"), [("loader", "resource_api"), ("resource_api", "loader")])
def test_the_api_shares_no_code_with_the_loader(package: str, other: str) -> None:
    used = {target.partition(".")[0] for tree in modules(package).values() for target in imports(tree)}
    assert other not in used


def test_one_file_of_the_api_imports_requests() -> None:
    owners = {
        name for name, tree in modules("resource_api").items() if any(is_requests(each) for each in imports(tree))
    }
    assert owners == {"resource_api.storage.s3_client"}


def is_requests(target: str) -> bool:
    return target.partition(".")[0] in ("requests", "urllib3")


def test_only_the_lazy_client_and_the_service_are_imported_inside_a_function() -> None:
    inside = {
        (name, target)
        for name, tree in modules("loader").items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for target in imports(function)
        if target.startswith("loader")
    }
    assert {name for name, _ in inside} == {"loader", "loader.api_client"}


def test_only_the_command_group_uses_importlib() -> None:
    assert {name for name, tree in modules("loader").items() if "importlib" in imports(tree)} == {"loader.cli.main"}
    assert {*COMMANDS.values(), *images.COMMANDS.values()} <= {
        name for name in LOADER if name.startswith("loader.cli.")
    }


def test_requirements_txt_lists_exactly_the_agreed_packages() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = {line.partition(">")[0] for line in lines if line and not line.startswith("#")}
    assert names == {
        "docker",
        "flask",
        "gunicorn",
        "marshmallow",
        "multipart",
        "prometheus-client",
        "pycryptodome",
        "python-json-logger",
        "requests",
    }
