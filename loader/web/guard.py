"""Who may talk to the loader: requests to a host name of ours, and no browser page of another origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, request

from loader.errors import CrossOrigin, UntrustedHost
from loader.server.worker import end_deadline

CLIENT_SILENCE_SECONDS = 60.0
# Probes of load balancers and of Kubernetes send an address, or no Host at all. Neither path tells a secret.
PROBED_PATHS = ("/health", "/ready")


def register_guard(app: Flask, trusted_hosts: tuple[str, ...]) -> None:
    """Refuse what `app` must not answer, before anything of it runs."""
    trusted = frozenset(host.lower() for host in trusted_hosts)

    @app.before_request
    def _guard() -> None:
        _limit_silence()
        if request.path not in PROBED_PATHS and _host_name(request.headers.get("Host", "")) not in trusted:
            raise UntrustedHost("This host name is not one that the loader answers to.")
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            _refuse_other_origins()


def _limit_silence() -> None:
    """Cut a client that neither sends nor takes for a while. Of the servers only gunicorn shows its socket."""
    client = request.environ.get("gunicorn.socket")
    if client is not None:
        client.settimeout(CLIENT_SILENCE_SECONDS)
        end_deadline(client)


def _refuse_other_origins() -> None:
    """Browsers send Sec-Fetch-Site, older ones and plain-HTTP pages Origin; programs send neither and may pass.

    Only host names are compared: behind a proxy that ends TLS the scheme and port that the browser saw are not known.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    elif origin is not None:
        foreign = _origin_host_name(origin) != _host_name(request.headers.get("Host", ""))
    else:
        foreign = False
    if foreign:
        raise CrossOrigin("Pages of other origins may not use the loader.")


def _origin_host_name(origin: str) -> str | None:
    """The host name in an Origin header; None if it cannot be parsed."""
    try:
        return _host_name(urlsplit(origin).netloc)
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """`host` in lower case without its port; an IPv6 address keeps its brackets."""
    name = host.lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
