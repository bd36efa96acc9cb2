"""What a proxy or a plugin in front of the engine will refuse, found out by requests that change nothing.

Each is a request of an unlock, but for an image or a container that cannot be there, or with an empty tar. Every engine
responds with an error of its own and keeps nothing; a proxy refuses the request before the engine gets it. Nothing else
shows a proxy: many pass on the headers of the engine, and a plugin responds through the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loader.docker_engine.connection import Connection
from loader.docker_engine.reasons import FORBIDDEN, message_of
from loader.errors import EngineUnavailable, LoaderError
from loader.references import LOADER_DOMAIN

ABSENT = f"{LOADER_DOMAIN}/absent"
ABSENT_CONTAINER = "azaion-loader-absent"


@dataclass(frozen=True)
class Request:
    """A request of an unlock. `path` has `{name}` for the `name` of an image or a container that cannot be there."""

    method: str
    path: str
    name: str = ABSENT
    query: str = ""
    document: dict[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


IMAGE_REQUESTS = (
    Request("POST", "/images/load"),
    Request("POST", "/images/{name}/tag", query=f"?repo={ABSENT}&tag=other"),
    Request("DELETE", "/images/{name}"),
)
CONTAINER_REQUESTS = (
    Request("POST", "/containers/create", document={"Image": ABSENT}),
    Request("DELETE", "/containers/{name}", ABSENT_CONTAINER),
)


def refusals(connection: Connection, requests: Iterable[Request]) -> Iterator[LoaderError]:
    """Yield an error for each of `requests` that does not reach the engine. Raises EngineUnavailable."""
    for request in requests:
        client = connection.queries
        url = f"{client.base_url}/v{client.api_version}{request.path.format(name=request.name)}{request.query}"
        with connection.faults():
            response = client.request(request.method, url, json=request.document, timeout=client.timeout)
        is_own = message_of(response) is not None and response.status_code not in FORBIDDEN
        if response.status_code >= 400 and not is_own:
            error = connection.refusal_in(response, f"refuses {request}")
            if isinstance(error, EngineUnavailable):
                raise error
            yield error
