"""A captive portal: a network that wants a login of its own responds in the place of every server."""

from __future__ import annotations

from enum import Enum, auto
from urllib.parse import urlsplit

from tests.support.fault_server import Exchange, FaultServer

LOGIN_PATH = "/portal"
PAGE = b"<!doctype html><title>Welcome</title><p>Please accept the terms of this network to go on."


class Manner(Enum):
    """What a portal responds: its page, a redirect to its page, or its page without a content type."""

    PAGE = auto()
    REDIRECT = auto()
    UNTYPED = auto()


class Portal(FaultServer):
    """A running portal. `manner` may change at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.manner = Manner.PAGE

    def respond(self, exchange: Exchange) -> None:
        """Send the page with status 200, or a redirect to it."""
        exchange.read_body()
        if self.manner is Manner.REDIRECT and exchange.seen.path != LOGIN_PATH:
            # A portal has a name of its own.
            host = urlsplit(self.url)._replace(netloc=f"localhost:{urlsplit(self.url).port}").geturl()
            exchange.send_whole(302, headers={"Location": host + LOGIN_PATH})
        else:
            kind = {} if self.manner is Manner.UNTYPED else {"Content-Type": "text/html"}
            exchange.send_whole(200, PAGE, kind)
