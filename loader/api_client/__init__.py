"""The resource API as the loader uses it: one shared `ApiClient`, made when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from loader.errors import ApiUnreachable, LoaderError
from loader.settings import Settings

if TYPE_CHECKING:
    from loader.api_client.client import ApiClient
    from loader.api_client.neighbour import Neighbour

_settings: Settings | None = None
_api_client: ApiClient | None = None
_api_client_lock = threading.Lock()


def configure(settings: Settings) -> None:
    """Take the address of the API, its authorities and the timeouts from `settings`; drop a client made before."""
    global _settings, _api_client
    with _api_client_lock:
        _settings, _api_client = settings, None


def get_api_client() -> ApiClient:
    """Return the one client of this process. Any thread may call it; only the first call makes the client."""
    global _api_client
    if _api_client is None:
        with _api_client_lock:
            if _api_client is None:
                # Import it here, because it brings the HTTP library along, which nothing needs before a login.
                from loader.api_client.client import ApiClient

                if _settings is None:
                    raise RuntimeError("create_app(settings) comes first")
                _api_client = ApiClient(
                    _settings.resource_api_url,
                    ca_bundle=_settings.resource_api_ca_bundle,
                    timeouts=(_settings.api_connect_timeout, _settings.api_read_timeout),
                    device_name=_settings.device_name,
                )
    return _api_client


def get_neighbour(url: str, timeouts: tuple[float, float]) -> Neighbour:
    """Return a client of a plain HTTP server. `timeouts` are seconds: to connect, and of silence."""
    # Import it here for the same reason.
    from loader.api_client.neighbour import Neighbour

    return Neighbour(url, ca_bundle=_settings.resource_api_ca_bundle if _settings else None, timeouts=timeouts)


def authenticated() -> bool:
    """Return whether somebody has logged in. Makes no client and sends nothing."""
    client = _api_client
    return client is not None and client.authenticated


def user() -> str | None:
    """Return the e-mail of the login that is kept; None if nobody has logged in. Makes no client."""
    client = _api_client
    return client.user if client is not None else None


def refusal() -> LoaderError | None:
    """Return why the API has ended the last login, see `Logins.refusal`. Makes no client."""
    client = _api_client
    return client.refusal if client is not None else None


def failure() -> ApiUnreachable | None:
    """Return why the API is not reachable; None if it is, see `ApiClient.reachable`. Makes no client."""
    client = _api_client
    return None if client is None or client.reachable else client.failure


def is_lost() -> bool:
    """Return whether the last request to the API, however long ago, got no response. Makes no client."""
    client = _api_client
    return client is not None and client.failure is not None


def forget_login() -> None:
    """Drop token and credentials, see `ApiClient.forget`. Makes no client."""
    client = _api_client
    if client is not None:
        client.forget()
