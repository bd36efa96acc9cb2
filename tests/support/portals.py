"""What portals of networks respond in the place of a server, as they come over the wire."""

from __future__ import annotations

PAGE = b"<html><body>Please pay for the network here.</body></html>"
WORDS = b"Please log in to this network before you use it."
PORTAL_URL = b"http://portal.localhost/login"


def response(status: bytes, headers: bytes, body: bytes) -> bytes:
    """Return a response with a length; `headers` are whole lines."""
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


PORTALS = {
    "a page": response(b"200 OK", b"Content-Type: text/html; charset=utf-8\r\n", PAGE),
    "a page as plain text": response(b"200 OK", b"Content-Type: text/plain\r\n", PAGE),
    "a page without a type": response(b"200 OK", b"", PAGE),
    "words without a type": response(b"200 OK", b"", WORDS),
    "a page to the end of the connection": b"HTTP/1.0 200 OK\r\n\r\n" + PAGE,
    "a page of a megabyte": response(b"200 OK", b"Content-Type: text/html\r\n", PAGE + b" " * (1 << 20)),
    "a status for portals": response(b"511 Network Authentication Required", b"Content-Type: text/html\r\n", PAGE),
    "a status of proxies": response(b"407 Proxy Authentication Required", b"Content-Type: text/html\r\n", PAGE),
}
# A GET of a resource follows these, as if a store were there.
REDIRECTING_PORTALS = {
    f"a redirect ({status.decode()})": response(status + b" Moved", b"Location: " + PORTAL_URL + b"\r\n", b"")
    for status in (b"301", b"302", b"303", b"307", b"308")
}
EMPTY_PORTAL = response(b"200 OK", b"", b"")
