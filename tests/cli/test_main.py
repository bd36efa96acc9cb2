"""The command group."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.version import VERSION
from tests.cli.packing_runs import invoke
from tests.support.archives import APP
from tests.support.loader_server import run_loader


def test_the_version_is_printed() -> None:
    assert invoke("--version").output == f"azaion-loader, version {VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["key", "images", "images pack", "key new"]),
        (["key"], ["new"]),
        (["images"], ["pack", "show", "verify", "rewrap"]),
        (["key", "new"], ["--output", "must not exist"]),
        (["images", "pack"], ["IMAGE", "--from", "--key", "--output", "DOCKER_HOST", "No plaintext is written"]),
        (["images", "show"], ["ARCHIVE", "Needs no key"]),
        (["images", "verify"], ["ARCHIVE", "--key", "every byte"]),
        (["images", "rewrap"], ["ARCHIVE", "--key", "--new-key", ".head"]),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_describes_every_command(arguments: list[str], words: list[str], option: str) -> None:
    result = invoke(*arguments, option)
    assert result.exit_code == 0
    assert [word for word in words if word not in " ".join(result.output.split())] == []


def test_the_module_uses_its_own_name_in_its_usage(tmp_path: Path) -> None:
    done = run_loader(tmp_path, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: python -m loader ")
    done = run_loader(tmp_path, "images", "nonsense")
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("images", "pack", "--key", "{key}", "-o", "x"),
        ("images", "pack", APP, "-o", "x"),
        ("images", "pack", APP, "--key", "{key}"),
        ("images", "pack", APP, "--key", "/nonexistent", "-o", "x"),
        ("images", "show", "/nonexistent"),
        ("images", "rewrap", "{key}", "--key", "{key}"),
        ("images", "pack", APP, "--platform", "arm64", "--key", "{key}", "-o", "x"),
        ("images", "pack", APP, "--serial", "-1", "--key", "{key}", "-o", "x"),
        ("images", "pack", APP, "--serial", str(1 << 53), "--key", "{key}", "-o", "x"),
        ("images", "pack", APP, "--compress", "zstd", "--key", "{key}", "-o", "x"),
        ("images", "pack", "--from", "/nonexistent", "--key", "{key}", "-o", "x"),
        ("key", "new"),
    ],
    ids=" ".join,
)
def test_a_missing_argument_prints_the_usage(arguments: tuple[str, ...], key: Path) -> None:
    result = invoke(*(argument.format(key=key) for argument in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
