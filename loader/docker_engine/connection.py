"""The connection to the engine: clients, timeouts, and the translation of every foreign error.

The only importer of docker. The SDK does not translate transport errors, which are all `OSError` or errors of urllib3.
`FOREIGN_ERRORS` lists every error that means that the engine failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors
import docker.utils
import urllib3

from loader.errors import DiskSpace, EngineRejected, EngineStalled, EngineUnavailable, LoaderError

FOREIGN_ERRORS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)
# Seconds for a query, such as which images there are: an engine that works responds at once.
QUERY_TIMEOUT = 20.0
# Bytes that the slowest engine unpacks in a second: a board whose disk is an SD card, while it computes digests.
SLOWEST_UNPACKING = 5 << 20
# The client with this purpose has another timeout for each load.
LOADS = "loads"
# Seconds for a ping, which is shorter because a caller waits for it.
PING_TIMEOUT = 2.0


class Absent(EngineRejected):
    """The engine has no such image."""


class Connection:
    """The clients of the engine at DOCKER_HOST. Connects when first used. Threads may share it.

    Each client is an `APIClient` of the SDK, to be used within `faults` or `load_faults` only.
    """

    def __init__(self, timeout: float) -> None:
        """`timeout` is how many seconds the engine may be silent during a load or a save."""
        self.timeout = timeout
        self._clients: dict[tuple[float, str], Any] = {}

    @property
    def pings(self) -> Any:
        """The client that waits only PING_TIMEOUT."""
        return self._connected(PING_TIMEOUT)

    @property
    def queries(self) -> Any:
        """The client for what a working engine responds to at once."""
        return self._connected(min(QUERY_TIMEOUT, self.timeout))

    @property
    def transfers(self) -> Any:
        """The client for saves."""
        return self._connected(self.timeout)

    def loads(self, size: int) -> Any:
        """Return the client for the load of a tar of `size` bytes. Only one load runs at a time.

        An engine may be silent from the last byte of a tar until it has unpacked all of it, which takes the longer the
        larger the tar is.
        """
        api = self._connected(self.timeout, LOADS)
        # The SDK reads the timeouts when it starts the request. The first is that of each byte that is sent.
        api.timeout = self.timeout, self.timeout + size / SLOWEST_UNPACKING
        return api

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Raise Absent, EngineRejected or EngineUnavailable for an error of the SDK in the block."""
        try:
            yield
        except docker.errors.NotFound as exc:
            raise Absent(_refused_request(exc)) from exc
        except docker.errors.APIError as exc:
            raise EngineRejected(_refused_request(exc)) from exc
        except FOREIGN_ERRORS as exc:
            raise EngineUnavailable("The Docker engine does not respond.") from exc

    @contextmanager
    def load_faults(self) -> Iterator[None]:
        """Raise EngineRejected, DiskSpace, EngineStalled or EngineUnavailable for an error of the SDK in a load."""
        try:
            yield
        except docker.errors.APIError as exc:
            raise refusal(exc.explanation or exc) from exc
        except FOREIGN_ERRORS as exc:
            raise _stalled_or_gone(exc) from exc

    def _connected(self, timeout: float, purpose: str = "") -> Any:
        # The constructor asks the engine for its version. Keep a client only once that succeeded, and hold no lock
        # meanwhile, because other threads must not wait for an engine that is down.
        client = self._clients.get((timeout, purpose))
        if client is None:
            with self.faults():
                made = docker.from_env(timeout=timeout).api
            client = self._clients.setdefault((timeout, purpose), made)
            if client is not made:
                made.close()
        return client


def speaks(client: Any, version: str) -> bool:
    """Return whether `client` talks to the engine in this version of the API, or in a later one."""
    return bool(docker.utils.version_gte(client.api_version, version))


def refusal(text: object) -> EngineRejected | DiskSpace:
    """Return the error that stands for an engine that refused the images and gave `text` as its reason."""
    reason = _one_line(text)
    if "no space left on device" in reason:
        return DiskSpace(f"The disk of the Docker engine is full: {reason}.")
    return EngineRejected(f"The Docker engine refused the images: {reason}.")


def explanation(response: Any) -> str:
    """Return what the engine says in a response that is no success."""
    try:
        return _one_line(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _refused_request(exc: docker.errors.APIError) -> str:
    return f"The Docker engine refused a request: {_one_line(exc.explanation or exc)}."


def _one_line(text: object) -> str:
    # podman reports its attempts on several lines.
    return " ".join(str(text).split()).rstrip(".")


def _stalled_or_gone(exc: Exception) -> LoaderError:
    if _timed_out(exc):
        return EngineStalled("The Docker engine fell silent during the load.")
    return EngineUnavailable("The connection to the Docker engine was lost during the load.")


def _timed_out(exc: BaseException) -> bool:
    """Return whether `exc` is a timeout, or wraps one in its arguments, as the SDK's HTTP library does."""
    wrapped = [arg for arg in exc.args if isinstance(arg, BaseException)]
    return isinstance(exc, TimeoutError | urllib3.exceptions.TimeoutError) or any(map(_timed_out, wrapped))
