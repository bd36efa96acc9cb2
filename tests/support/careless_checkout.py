"""The sources of the image, with what nobody should leave in a checkout, and some do."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.loader_server import REPOSITORY

PLANTED = b"nothing that lies about in a checkout may enter the image"
LEFT_BEHIND = (".git/config", ".env", "fragment.key", "tests/test_x.py", "deploy/.env", "loader/__pycache__/x.pyc")
FILES = ("Dockerfile", ".dockerignore", "Makefile", "requirements.lock", "wsgi.py", "gunicorn.conf.py")
FOLDERS = ("loader", "deploy")


def careless_checkout(directory: Path) -> Path:
    """Fills the new `directory`, of which nobody but its owner may read anything, and returns it."""
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
