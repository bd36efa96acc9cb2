"""A checkout from which tests build the image, with files that must not enter the image."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.loader_server import REPOSITORY

PLANTED = b"no stray file of a checkout may enter the image"
LEFT_BEHIND = (".git/config", ".env", "fragment.key", "tests/test_x.py", "deploy/.env", "loader/__pycache__/x.pyc")
FILES = (
    "Dockerfile",
    ".dockerignore",
    "Makefile",
    "LICENSE",
    "pyproject.toml",
    "requirements.lock",
    "requirements.txt",
)
FOLDERS = ("loader", "resource_api", "deploy")


def careless_checkout(directory: Path) -> Path:
    """Fill the empty `directory` with files that only their owner can read, and return it."""
    for name in FILES:
        shutil.copy(REPOSITORY / name, directory)
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LEFT_BEHIND:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(PLANTED)
    for path in directory.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory
