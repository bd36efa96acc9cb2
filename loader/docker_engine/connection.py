"""The connection to the engine: clients, timeouts, and the translation of every foreign error.

The only importer of docker. The SDK does not translate transport errors, which are all `OSError` or errors of urllib3.
`FOREIGN_ERRORS` lists every error that means that the engine failed. Every message names the address and the reason,
without credentials.

Only the variables of Docker have an effect: no proxy, no `.netrc` and no bundle of authorities of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import docker
import docker.constants
import docker.errors
import docker.utils
import urllib3

from loader.docker_engine import reasons
from loader.docker_engine.address import require_certificates, shown_address, without_secrets
from loader.docker_engine.description import nonsense_refused
from loader.errors import DiskSpace, EngineRejected, EngineStalled, EngineUnavailable, LoaderError

FOREIGN_ERRORS = (docker.errors.DockerException, OSError, urllib3.exceptions.HTTPError)
# What the SDK raises for variables, or for a configuration file of Docker, that it cannot use.
SETTINGS_ERRORS = (docker.errors.DockerException, OSError, ValueError, TypeError, AttributeError, KeyError)
# A client of a given version is made without a request.
OFFLINE_API = docker.constants.MINIMUM_DOCKER_API_VERSION
# Seconds for a query, such as which images there are: an engine that works responds at once.
QUERY_TIMEOUT = 20.0
# Bytes that the slowest engine unpacks in a second: a board whose disk is an SD card, while it computes digests.
SLOWEST_UNPACKING = 5 << 20
# The client with this purpose has another timeout for each load.
LOADS = "loads"
# Seconds for a ping, which is shorter because a caller waits for it.
PING_TIMEOUT = 2.0
Result = TypeVar("Result")


class Absent(EngineRejected):
    """The engine has no such image."""


class NotPermitted(EngineRejected):
    """A proxy or a plugin in front of the engine refused the request."""

    hint = reasons.FORBIDDEN_HINT


class OtherVersion(EngineUnavailable):
    """The engine does not speak the version of its API any more that it told at first."""

    hint = "Try again: the loader asks the engine for its version once more."


class Connection:
    """The clients of the engine at DOCKER_HOST. Connects when first used. Threads may share it.

    Each client is an `APIClient` of the SDK, to be used within `faults` or `load_faults` only.
    """

    def __init__(self, timeout: float) -> None:
        """`timeout` is how many seconds the engine may be silent during a load or a save."""
        self.timeout = timeout
        self._clients: dict[tuple[float, str], Any] = {}

    @property
    def address(self) -> str:
        """Where the engine is, as messages show it."""
        return shown_address(os.environ)

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
        """The client for what may take as long as the engine may be silent: saves, and containers of large images."""
        return self._connected(self.timeout)

    def check_settings(self) -> None:
        """Raise EngineUnavailable if DOCKER_HOST, or a setting beside it, cannot be used. Asks no engine."""
        self._client(OFFLINE_API, PING_TIMEOUT).close()

    def loads(self, size: int) -> Any:
        """Return the client for the load of a tar of `size` bytes. Only one load runs at a time.

        An engine may be silent from the last byte of a tar until it has unpacked all of it, which takes the longer the
        larger the tar is.
        """
        api = self._connected(self.timeout, LOADS)
        # The SDK reads the timeouts when it starts the request. The first is that of each byte that is sent.
        api.timeout = self.timeout, self.patience(size)
        return api

    def patience(self, size: int) -> float:
        """Return how many seconds the engine may be silent while it unpacks a tar of `size` bytes."""
        return self.timeout + size / SLOWEST_UNPACKING

    def renegotiated(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns. Call it a second time if the engine speaks another version than before."""
        try:
            return call()
        except OtherVersion:
            return call()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Raise Absent, EngineRejected, DiskSpace or EngineUnavailable for an error of the SDK in the block."""
        try:
            with self._refusals("refused a request"):
                yield
        except FOREIGN_ERRORS as exc:
            sentence = f"The Docker engine at {self.address} does not respond: {_reason(exc)}."
            raise EngineUnavailable(sentence, hint=reasons.hint_for(exc)) from exc

    @contextmanager
    def load_faults(self, what: str = "refused the images") -> Iterator[None]:
        """Raise EngineRejected, DiskSpace, EngineStalled or EngineUnavailable for an error of the SDK in a load.

        `what` completes the sentence "The engine ...".
        """
        try:
            with self._refusals(what):
                yield
        except FOREIGN_ERRORS as exc:
            if reasons.timed_out(exc):
                silent = f"The Docker engine at {self.address} fell silent during the load: no response in time."
                raise EngineStalled(silent) from exc
            lost = f"The connection to the Docker engine at {self.address} was lost during the load: {_reason(exc)}."
            raise EngineUnavailable(lost, hint=reasons.LOST_HINT) from exc

    def refusal_in(self, response: Any, what: str) -> LoaderError:
        """Return the error for a response that is no success. `what` completes the sentence "The engine ..."."""
        message = reasons.message_of(response)
        if message is not None:
            return self.refusal(message, what, response.status_code)
        said = reasons.status_of(response)
        if response.status_code in reasons.UNREACHED:
            return EngineUnavailable(f"No Docker engine responds behind the proxy at {self.address}: {said}.")
        sentence = f"The Docker engine at {self.address}, or a proxy in front of it, {what}: {said}."
        plain = response.status_code == reasons.PLAIN_HTTP_TO_TLS
        return NotPermitted(sentence, hint=reasons.TLS_HINT if plain else None)

    def refusal(self, message: object, what: str, status: int = 200) -> LoaderError:
        """Return the error for what the engine itself says. `what` completes the sentence "The engine ..."."""
        reason = reasons.one_line(message)
        if reasons.is_full(str(message)):
            return DiskSpace(f"The disk of the Docker engine at {self.address} is full: {reason}.")
        sentence = f"The Docker engine at {self.address} {what}: {reason}."
        if reasons.is_version_refused(reason):
            # It was updated or replaced. Other threads may still use the clients, so that nobody closes them.
            self._clients.clear()
            return OtherVersion(sentence)
        if status in reasons.FORBIDDEN:
            return NotPermitted(sentence)
        if status == reasons.NOT_FOUND:
            return Absent(sentence, hint=reasons.REQUEST_HINT)
        return EngineRejected(sentence, hint=None if "images" in what else reasons.REQUEST_HINT)

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.APIError as exc:
            raise self.refusal_in(exc.response, what) from exc
        except (KeyError, TypeError, AttributeError) as exc:
            # The SDK raises these for an error response whose JSON has no message.
            response = getattr(exc.__context__, "response", None)
            if response is None:
                raise
            raise self.refusal_in(response, what) from exc

    def _connected(self, timeout: float, purpose: str = "") -> Any:
        # Keep a client only once the engine has told its version, and hold no lock meanwhile, because other threads
        # must not wait for an engine that is down.
        client = self._clients.get((timeout, purpose))
        if client is None:
            made = self._client(self._version(timeout), timeout)
            client = self._clients.setdefault((timeout, purpose), made)
            if client is not made:
                made.close()
        return client

    def _version(self, timeout: float) -> str:
        """Return the version of the API that the engine speaks."""
        with closing(self._client(OFFLINE_API, timeout)) as client, self.faults():
            try:
                told = client.version(api_version=False)
            except AttributeError as exc:
                # The SDK takes HttpHeaders of its configuration file as they are.
                raise self._unusable(exc) from exc
        with nonsense_refused():
            version: str = told["ApiVersion"]
            if not docker.utils.version_gte(version, OFFLINE_API):
                old = f"The Docker engine at {self.address} speaks API {reasons.one_line(version)}, which is too old."
                raise EngineRejected(old, hint=f"Use an engine that speaks API {OFFLINE_API} or later.")
        return version

    def _client(self, version: str, timeout: float) -> Any:
        try:
            require_certificates(os.environ)
            client = docker.APIClient(version=version, timeout=timeout, **docker.utils.kwargs_from_env())
        except SETTINGS_ERRORS as exc:
            raise self._unusable(exc) from exc
        # The environment of other programs must decide neither whom the loader trusts nor where the images go, and no
        # response may send them elsewhere.
        client.trust_env = False
        client.max_redirects = 0
        return client

    def _unusable(self, exc: Exception) -> EngineUnavailable:
        sentence = f"The settings of the Docker engine at {self.address} cannot be used: {_settings_reason(exc)}."
        return EngineUnavailable(sentence, hint=reasons.SETTINGS_HINT)


def speaks(client: Any, version: str) -> bool:
    """Return whether `client` talks to the engine in this version of the API, or in a later one."""
    return bool(docker.utils.version_gte(client.api_version, version))


def _reason(exc: Exception) -> str:
    return reasons.system_reason(exc) or without_secrets(reasons.last_reason(exc), os.environ)


def _settings_reason(exc: Exception) -> str:
    if isinstance(exc, TypeError | AttributeError | KeyError):
        return "config.json in DOCKER_CONFIG, or in ~/.docker, has not the form that Docker gives it"
    said = exc.msg if isinstance(exc, docker.errors.TLSParameterError) else exc
    return reasons.system_reason(exc) or without_secrets(reasons.one_line(said), os.environ)
