"""OpenStack Swift as the S3 store of a resource API: a real store, in one process, ready within seconds.

Its packages are installed once per machine, into a virtual environment in the user's cache, because some of them are
older than those of the project.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import requests

from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_signature import KeyPair, Signer
from tests.support.debian_root import cache
from tests.support.http_probe import http_status
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port

REQUIREMENTS = Path(__file__).with_name("requirements-swift.txt")
SERVER = Path(__file__).with_name("swift_server.py")
INSTALL_SECONDS = 600
READY_SECONDS = 60.0
REGION = "us-east-1"
BIG, SMALL = "big", "small"


class SwiftUnavailable(Exception):
    """Swift cannot be installed; the text says why."""


class SwiftStore:
    """A running store, with the buckets BIG and SMALL, each of an account of its own.

    Its files are in `directory`. It is ready when the constructor returns, and the end of the `with` block stops it.
    """

    def __init__(self, directory: Path) -> None:
        """Skip the test, or fail it in CI, if Swift cannot be installed."""
        python = swift_environment() / "bin" / "python"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._keys = {
            name: KeyPair(f"{name}:{name}", hashlib.sha256(name.encode()).hexdigest()) for name in (BIG, SMALL)
        }
        for name, keys in self._keys.items():
            self._keys_file(name).touch(mode=0o600)
            self._keys_file(name).write_text(f"{keys.access_key}\n{keys.secret_key}\n")
        accounts = [f"{name}:{keys.secret_key}" for name, keys in self._keys.items()]
        self.process = ManagedProcess(
            "swift",
            [str(python), "-W", "ignore", str(SERVER), str(directory), f"127.0.0.1:{self.port}", *accounts],
            directory,
            env=clean_env(directory),
        )
        try:
            self._wait()
            for name in self._keys:
                self.presigned("PUT", name).raise_for_status()
        except BaseException:
            self.process.stop()
            raise

    def settings(self, *, small_bucket: bool = True, url_seconds: int = 600) -> dict[str, str]:
        """Return the environment of a resource API that keeps its objects here.

        Without `small_bucket` it keeps all but the big ones in its data directory.
        """
        settings = {
            "RESOURCE_API_STORE": self.url,
            "RESOURCE_API_STORE_BUCKET": BIG,
            "RESOURCE_API_STORE_KEYS": str(self._keys_file(BIG)),
            "RESOURCE_API_STORE_URL_SECONDS": str(url_seconds),
        }
        small = {"RESOURCE_API_SMALL_BUCKET": SMALL, "RESOURCE_API_SMALL_KEYS": str(self._keys_file(SMALL))}
        return settings | (small if small_bucket else {})

    def signer(self, name: str) -> Signer:
        """Return what signs requests in the name of the account that has the bucket `name`."""
        return Signer(self.url, REGION, self._keys[name])

    def bucket(self, name: str) -> Bucket:
        """Return the bucket `name`."""
        return Bucket(StoreClient(self.signer(name), None), name)

    def presigned(self, method: str, bucket: str, key: str = "") -> requests.Response:
        """Send a request without a body."""
        path = f"/{bucket}/{key}" if key else f"/{bucket}"
        return requests.request(method, self.signer(bucket).url(method, path, 60), timeout=READY_SECONDS)

    def clear(self) -> None:
        """Remove all objects and all uploads."""
        for name in self._keys:
            bucket = self.bucket(name)
            for each in list(bucket.find("")):
                bucket.delete(each.name)
            for upload in list(bucket.uploads()):
                bucket.abort(upload.key, upload.id)

    def kill(self) -> None:
        """Kill the store, as a power cut would."""
        self.process.kill_tree()

    def restart(self) -> None:
        """Start the store again, with what it had."""
        self.process.restart()
        self._wait()

    def _wait(self) -> None:
        ready = lambda: http_status(self.url, "/healthcheck") == 200  # noqa: E731
        self.process.wait_until(ready, READY_SECONDS, "Swift is healthy")

    def _keys_file(self, name: str) -> Path:
        return self._directory / f"{name}.keys"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()


def swift_environment() -> Path:
    """Return the virtual environment of Swift. Skip the test, or fail it in CI, if Swift cannot be installed."""
    try:
        return _made()
    except SwiftUnavailable as exc:
        missing("OpenStack Swift", str(exc))


@functools.cache
def _made() -> Path:
    """Return the virtual environment, which one process makes while the others wait."""
    place = cache()
    identity = f"{REQUIREMENTS.read_text()}{sys.version}{sys.base_prefix}"
    root = place / f"swift-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "ready").exists():
            _make(root)
    return root


def _make(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", str(root)], [str(root / "bin" / "python"), *install]):
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, check=False, stdout=output, stderr=output, timeout=INSTALL_SECONDS)
            output.seek(0)
            if done.returncode:
                raise SwiftUnavailable(f"{' '.join(command[1:4])}: {output.read().strip()[-500:]}")
    (root / "ready").touch()
