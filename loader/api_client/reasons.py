"""Why a server was not reached or cut its response: one sentence with host, port and reason, and a hint that fits.

The sentences name neither path, query nor credentials of a URL, because redirects to a store are signed there.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

from urllib3.exceptions import ConnectTimeoutError
from urllib3.util import parse_url

from loader.api_client.deadlines import Late
from loader.errors import ApiUnreachable

# No name is longer in DNS (RFC 1035, section 2.3.4); a redirect may hold anything.
HOST_MAX_LENGTH = 255
# What servers that expect TLS respond to plain HTTP.
PLAIN_HTTP_TO_TLS = 400

ROUTE_ERRORS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})
# Numbers of OpenSSL (x509_vfy.h), which the module ssl does not name.
CERTIFICATE_TIMES = frozenset({9, 10})  # not yet valid, expired
CERTIFICATE_NAMES = frozenset({62, 64})  # host name, IP address
CERTIFICATE_AUTHORITIES = frozenset({2, 18, 19, 20, 21, 27})  # no issuer, self-signed (alone, in the chain), untrusted
# What RFC 5280 demands: an authority that may not be one, version, extensions, names and the form of the key.
CERTIFICATE_RULES = frozenset(range(79, 95))
# Reasons of OpenSSL: what came is no TLS; it ended within the handshake; no version of TLS suits both sides.
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
CUT_TLS = frozenset({"UNEXPECTED_EOF_WHILE_READING"})
OLD_TLS = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"})

# `{source}` is what holds the address of the server.
DNS_HINT = "Check the DNS server of this device and the name in {source}, and try again."
NAME_HINT = "Correct the name in {source}: no host can have it."
REFUSED_HINT = (
    "Check that the server runs at the host and port in {source} and that no firewall refuses the connection, and try "
    "again."
)
ROUTE_HINT = "Check the network of this device: its link, its address and its routes, and try again."
FIREWALL_HINT = "Let the firewall of this device permit connections to that host and port, and try again."
NO_CONNECTION_HINT = (
    "Check the network and the host in {source}; a firewall may drop the packets. The loader uses no proxy: it needs a "
    "direct way to the server."
)
SILENT_HINT = (
    "Check whether the server is overloaded or a firewall holds its packets back; if the line is slow, raise "
    "API_READ_TIMEOUT."
)
LATE_HINT = (
    "Check whether the line is slow, or a firewall, a proxy or a portal of the network holds the response back, and "
    "try again."
)
PORTAL_HINT = (
    "If this network has a portal, log in there with a browser, and try again; if not, check {source}, and whether a "
    "proxy on the way changes responses."
)
CODING_HINT = "Let the server, its CDN or the proxy on the way send responses as they are, without Content-Encoding."
STORE_HINT = (
    "Compare the clocks of the resource API and of its store, and check that the addresses that the API signs open "
    "what is stored there."
)
CUT_HINT = "Read the log of the server; if it shows no fault, a firewall or a proxy on the way cuts connections."
PLAIN_HINT = "Write https in {source} if the port speaks TLS."
NO_HTTP_HINT = "Check host, port and scheme in {source}: another kind of server listens there."
NO_TLS_HINT = "Check host, port and scheme in {source}: what responds there does not speak TLS."
OLD_TLS_HINT = "Let the server, or what ends TLS in front of it, speak TLS 1.2 or later."
TLS_HINT = (
    "Read the log of the server's TLS: it may ask for a certificate of the client, which the loader does not have, or "
    "for ciphers that this device does not know."
)
CLOCK_HINT = (
    "Set the clock of this device if it is wrong: it says {now}. If it is right, give the server a certificate that is "
    "valid now."
)
CERTIFICATE_NAME_HINT = (
    "Use a name of the certificate in {source}, or give the server a certificate for that name; a portal of the "
    "network may also respond in its place."
)
AUTHORITY_HINT = (
    "Set RESOURCE_API_CA_BUNDLE to the authorities that vouch for the server, and let the server send its intermediate "
    "certificates. If the network inspects TLS, it has put its own certificate in their place."
)
CERTIFICATE_HINT = "Give the server a certificate that this device can verify."


# The first class of an exception that fits gives reason and hint; `{}` stands for the words of the system.
EXPLANATIONS: tuple[tuple[type[BaseException], str, str | None], ...] = (
    (UnicodeError, "its name is not a host name", NAME_HINT),
    (socket.gaierror, "its name could not be resolved: {}", DNS_HINT),
    (Late, "its response was not complete in time", LATE_HINT),
    (TimeoutError, "it was silent for too long", SILENT_HINT),
    (ConnectionRefusedError, "{}", REFUSED_HINT),
    (RemoteDisconnected, "it closed the connection without a response", CUT_HINT),
    (ConnectionError, "{}", CUT_HINT),
    (PermissionError, "{}", FIREWALL_HINT),
    (OSError, "{}", None),
    (IncompleteRead, "it ended early", CUT_HINT),
    (HTTPException, "its response is not HTTP", NO_HTTP_HINT),
)


class CertificateUnfit(ApiUnreachable):
    """The certificate of a server or of its authority lacks what RFC 5280 demands; the detail says what."""

    retryable = False
    hint = (
        'Make the certificates of the server and of its authority again, as docs/operations.md shows under "A private '
        'authority": Python 3.13 and later refuse those that lack an extension.'
    )


@dataclass(frozen=True)
class Peer:
    """The server that a request goes to: the resource API itself, or a store that the API redirects to."""

    url: str = field(repr=False)
    is_api: bool

    def __str__(self) -> str:
        """Name the server with host and port. "The" goes before it."""
        url = parse_url(self.url)
        place = f"at {str(url.host)[:HOST_MAX_LENGTH]} port {url.port or (80 if self.is_plain else 443)}"
        return f"resource API {place}" if self.is_api else f"store {place} that the resource API redirects to"

    @property
    def is_plain(self) -> bool:
        """Whether requests to it are not encrypted."""
        return self.url.startswith("http:")

    def fill(self, hint: str) -> str:
        """Return `hint` with what it says of this server and of this moment."""
        source = "RESOURCE_API_URL" if self.is_api else "the redirects of the resource API"
        return hint.format(source=source, now=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def unreached(exc: BaseException, peer: Peer) -> ApiUnreachable:
    """Return the error for a request to `peer` that got no response because of `exc`."""
    reason, hint = _explanation(exc)
    if peer.is_plain and hint in (CUT_HINT, NO_HTTP_HINT):
        hint = f"{hint} {PLAIN_HINT}"
    kind = CertificateUnfit if hint == CertificateUnfit.hint else ApiUnreachable
    return kind(f"The {peer} could not be reached: {reason}.", hint=hint and peer.fill(hint))


def cut(exc: BaseException, peer: Peer) -> ApiUnreachable:
    """Return the error for a response of `peer` that ended before its last byte because of `exc`."""
    reason, hint = _explanation(exc)
    if hint in (TLS_HINT, NO_TLS_HINT):
        # Both sides have agreed on TLS before, so what fails now was changed on the way.
        hint = CUT_HINT
    return ApiUnreachable(f"The response of the {peer} was cut: {reason}.", hint=hint and peer.fill(hint))


def status_hint(status: int, peer: Peer) -> str | None:
    """Return what to do about a refusal of `peer`; None if the status says nothing special."""
    return peer.fill(PLAIN_HINT) if status == PLAIN_HTTP_TO_TLS and peer.is_plain else None


def _explanation(exc: BaseException) -> tuple[str, str | None]:
    """Return the reason in the words of the system or of TLS, and what to do about it."""
    found = next(filter(None, map(_explained, _causes(exc))), None)
    return found or ("the connection failed", None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc` and what has caused it, outermost first."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _explained(cause: BaseException) -> tuple[str, str | None] | None:
    # The library counts a refused connection and an unknown name among these timeouts, as subclasses.
    if type(cause) is ConnectTimeoutError:
        return "no connection in time", NO_CONNECTION_HINT
    if isinstance(cause, ssl.SSLError):
        return _explained_by_tls(cause)
    for kind, reason, hint in EXPLANATIONS:
        if isinstance(cause, kind):
            words = getattr(cause, "strerror", None)
            if words is None and "{}" in reason:
                return None
            return reason.format(words), ROUTE_HINT if getattr(cause, "errno", None) in ROUTE_ERRORS else hint
    return None


def _explained_by_tls(cause: ssl.SSLError) -> tuple[str, str]:
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"its certificate could not be verified: {cause.verify_message.rstrip('.')}"
        return reason, _certificate_hint(cause.verify_code)
    said = re.sub(r" *\(_ssl\.c:\d+\)", "", cause.reason or cause.strerror or "no reason").replace("_", " ").lower()
    if cause.reason in OLD_TLS:
        return f"it does not speak TLS 1.2 or later: {said}", OLD_TLS_HINT
    if cause.reason in NO_TLS:
        return f"TLS failed: {said}", NO_TLS_HINT
    return f"TLS failed: {said}", CUT_HINT if cause.reason in CUT_TLS else TLS_HINT


def _certificate_hint(code: int) -> str:
    if code in CERTIFICATE_TIMES:
        return CLOCK_HINT
    if code in CERTIFICATE_NAMES:
        return CERTIFICATE_NAME_HINT
    if code in CERTIFICATE_RULES:
        return CertificateUnfit.hint
    return AUTHORITY_HINT if code in CERTIFICATE_AUTHORITIES else CERTIFICATE_HINT
