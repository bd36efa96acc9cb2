"""Which redirects are followed, and where they lead."""

from __future__ import annotations

from urllib.parse import unquote, urljoin

from urllib3.util import Url, make_headers, parse_url

from loader.api_client.reasons import PORTAL_HINT
from loader.api_client.responses import Response
from loader.errors import ApiFault, ApiProtocol, ApiUnreachable

MAX_REDIRECTS = 5
REDIRECTS_BY_METHOD = {"GET": (302, 303, 307), "PUT": (307,)}


def redirect_target(method: str, origin: str, response: Response) -> tuple[str, dict[str, str]] | None:
    """Return where `response` leads from `origin`, with a header for the credentials that its address contains.

    None if the redirect is not to be followed.
    """
    followed = response.status in REDIRECTS_BY_METHOD.get(method, ())
    return given_address(origin, response.headers.get("Location", "")) if followed else None


def given_address(origin: str, location: str) -> tuple[str, dict[str, str]] | None:
    """Return the address that a server at `origin` gives, with a header for the credentials that it contains.

    None if the loader never goes there.
    """
    target = _address(origin, location)
    try:
        return target and (target.url, make_headers(basic_auth=unquote(target.auth)) if target.auth else {})
    except ValueError:
        return None


def refused_redirect(method: str, origin: str, response: Response) -> ApiFault:
    """Describe a redirect from `origin` that is not followed.

    A portal of the network answers plain HTTP with a redirect to a host of its own; the API has no reason to.
    """
    peer, status = response.peer, response.status
    target = _address(origin, response.headers.get("Location", ""))
    if peer.is_api and peer.is_plain and target is not None and target.host != parse_url(origin).host:
        return ApiUnreachable(
            f"Something between here and the {peer} responded in its place: a redirect ({status}) to another host.",
            hint=peer.fill(PORTAL_HINT),
        )
    return ApiProtocol(f"The {peer} responded to a {method} with a redirect ({status}) that is not allowed.")


def _address(origin: str, location: str) -> Url | None:
    """Return the address of a `location`, relative to `origin` or not; None if the loader never goes there.

    Any host is allowed, but neither another scheme than HTTP nor a way from https to http.
    """
    try:
        target = parse_url(urljoin(origin, location))
    except ValueError:
        return None
    allowed = target.scheme == "https" or target.scheme == parse_url(origin).scheme == "http"
    named = target.host and not target.host.startswith(("*", "."))
    return target if allowed and named and location and location.isascii() else None
