"""The way to the resource API: one shared `ApiClient`, made when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from loader.settings import Settings

if TYPE_CHECKING:
    from loader.api_client.client import ApiClient

_settings: Settings | None = None
_api_client: ApiClient | None = None
_api_client_lock = threading.Lock()


def configure(settings: Settings) -> None:
    """Take RESOURCE_API_URL and its companions from `settings`; a client made for others is dropped."""
    global _settings, _api_client
    with _api_client_lock:
        _settings, _api_client = settings, None


def get_api_client() -> ApiClient:
    """The one client of this process. Safe to call from any thread; only the first call makes one."""
    global _api_client
    if _api_client is None:
        with _api_client_lock:
            if _api_client is None:
                # Imported here: it brings the HTTP library along, which nothing needs before somebody logs in.
                from loader.api_client.client import ApiClient

                if _settings is None:
                    raise RuntimeError("create_app(settings) comes first")
                _api_client = ApiClient(
                    _settings.resource_api_url,
                    ca_bundle=_settings.resource_api_ca_bundle,
                    timeouts=(_settings.api_connect_timeout, _settings.api_read_timeout),
                )
    return _api_client


def authenticated() -> bool:
    """Whether somebody has logged in; makes no client and no call."""
    client = _api_client
    return client is not None and client.authenticated


def reachable() -> bool:
    """False while the last try to reach the API has failed, see `ApiClient`; makes no client and no call."""
    client = _api_client
    return client is None or client.reachable


def forget_login() -> None:
    """Drop token and credentials, see `ApiClient.forget`; makes no client."""
    client = _api_client
    if client is not None:
        client.forget()
