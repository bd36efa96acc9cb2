"""Finds a running Docker engine for the demo, or starts a private one."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import docker.errors
import urllib3

from .commands import CannotInstall, Command, StepFailed, ensure_program
from .screen import Screen
from .services import start

SYSTEM_SOCKET = Path("/var/run/docker.sock")
GREETING_SECONDS = 5
CALL_SECONDS = 60
START_SECONDS = 60
TRIAL_IMAGE = "azaion-demo-trial:1"

# The SDK does not translate errors of the transport.
FAULTS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)


class NoEngine(Exception):
    """There is no engine and the demo cannot start one; the text says why."""


class Engine:
    """An engine that responds at `host`. Raises NoEngine if it does not."""

    def __init__(self, host: str) -> None:
        self.host = host
        try:
            self._client: Any = docker.from_env(
                environment={**os.environ, "DOCKER_HOST": host}, timeout=GREETING_SECONDS
            )
            self.version = str(self._client.version()["Version"])
        except FAULTS as exc:
            raise NoEngine(f"{host} does not answer: {_reason(exc)}") from exc
        self._client.api.timeout = CALL_SECONDS

    def make_image(self, reference: str, random_size: int) -> None:
        """Import a generated root file system as an image: `random_size` bytes and a text. Raises StepFailed."""
        try:
            # The whole reference goes here, because podman ignores the parameter for the tag.
            self._client.api.import_image_from_data(_root_file_system(random_size), repository=reference)
        except FAULTS as exc:
            raise StepFailed(f"expected the engine to import {reference}: {_reason(exc)}") from exc
        if not self.has_image(reference):
            raise StepFailed(f"expected {reference} in the engine after its import")

    def has_image(self, reference: str) -> bool:
        """Return whether the engine has the image. Raises StepFailed."""
        try:
            self._client.images.get(reference)
        except docker.errors.NotFound:
            return False
        except FAULTS as exc:
            raise StepFailed(f"expected the engine to look up {reference}: {_reason(exc)}") from exc
        return True

    def remove_image(self, reference: str) -> None:
        """Remove the image if the engine has it. Raises StepFailed."""
        try:
            self._client.images.remove(reference, force=True)
        except docker.errors.NotFound:
            return
        except FAULTS as exc:
            raise StepFailed(f"expected the engine to remove {reference}: {_reason(exc)}") from exc

    def curl_arguments(self, path: str) -> tuple[str, ...] | None:
        """Return the curl command for `path` of its API; None for an engine behind TLS or ssh."""
        scheme, _, address = self.host.partition("://")
        if scheme == "unix":
            return ("--unix-socket", address, f"http://localhost{path}")
        if scheme in ("tcp", "http") and not os.environ.get("DOCKER_TLS_VERIFY"):
            return (f"http://{address}{path}",)
        return None


def find_engine(screen: Screen, cleanup: ExitStack, directory: Path) -> Engine:
    """Return the engine of DOCKER_HOST, of the system, or a private one that `cleanup` stops. Raises NoEngine."""
    named = os.environ.get("DOCKER_HOST")
    if named:
        # Try no other engine, because the user chose this one.
        try:
            return _greeted(screen, Engine(named), "the one that DOCKER_HOST names")
        except NoEngine as exc:
            raise NoEngine(f"{exc} (DOCKER_HOST names it, so no other is tried)") from exc
    try:
        return _greeted(screen, Engine(f"unix://{SYSTEM_SOCKET}"), "the one of this machine")
    except NoEngine as exc:
        if os.geteuid() != 0:
            raise NoEngine(f"{exc}, and only root may start one: set DOCKER_HOST, or run as root") from exc
    return _greeted(screen, _start_private_engine(screen, cleanup, directory), "a private one for this demo")


def _greeted(screen: Screen, engine: Engine, description: str) -> Engine:
    screen.good(f"Docker {engine.version} at {engine.host}, {description}")
    return engine


def _start_private_engine(screen: Screen, cleanup: ExitStack, directory: Path) -> Engine:
    try:
        ensure_program(screen, directory, "dockerd", "docker.io")
    except CannotInstall as exc:
        raise NoEngine(str(exc)) from exc
    home = directory / "docker"
    home.mkdir()
    host = f"unix://{home}/docker.sock"
    # Make no bridge and no firewall rules, because no container runs and the network of the host must not change.
    where = ("--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid")
    command = Command(("dockerd", "--host", host, *where, "--iptables=false", "--bridge=none"))
    screen.command(f"{command} &")
    service = start(cleanup, "dockerd", command, directory)
    try:
        service.wait_until(lambda: _answers(host), START_SECONDS)
    except StepFailed as exc:
        last = service.log.read_text(errors="replace").splitlines()[-1:]
        raise NoEngine(f"{exc}: {' '.join(last)}") from exc
    engine = Engine(host)
    try:
        engine.make_image(TRIAL_IMAGE, random_size=1)
        engine.remove_image(TRIAL_IMAGE)
    except StepFailed as exc:
        # Only this trial shows whether the engine works, because dockerd also starts in a container without privileges.
        raise NoEngine(f"dockerd runs, but lacks the rights to unpack images here: {exc}") from exc
    return engine


def _answers(host: str) -> bool:
    try:
        Engine(host)
    except NoEngine:
        return False
    return True


def _reason(exc: BaseException) -> str:
    """Return the words of the engine or the system if there are any, without those of the SDK and its HTTP library."""
    if isinstance(exc, docker.errors.APIError) and exc.explanation:
        return str(exc.explanation)
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    return str(exc)


def _root_file_system(random_size: int) -> bytes:
    contents = {"etc/motd": b"An image of the Azaion Loader's demo.\n", "app/weights.bin": os.urandom(random_size)}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
