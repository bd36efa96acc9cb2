"""Images out of the engine, as `docker save` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from loader.docker_engine.connection import Connection, speaks
from loader.docker_engine.description import nonsense_refused, platform_document
from loader.docker_engine.reasons import error_in
from loader.errors import LoaderError

SAVE_READ_SIZE = 1 << 20
# The start of an error within a response that began well.
ERROR_START = b'{"errorDetail"'
# The first version of the API whose save takes a platform.
PLATFORM_API = "1.48"
WHAT = "could not save the images"


def save(connection: Connection, references: list[str], platform: str | None) -> Iterator[bytes]:
    """Yield the tar of these images. Raises EngineUnavailable, EngineRejected or DiskSpace.

    An engine that may hold an image for several platforms is asked for `platform`.
    """
    api = connection.transfers
    # This calls the engine's API directly, because the SDK saves only one image; a tar of several images holds a
    # shared layer once.
    url = f"{api.base_url}/v{api.api_version}/images/get"
    parameters: dict[str, Any] = {"names": references}
    if platform is not None and speaks(api, PLATFORM_API):
        parameters["platform"] = platform_document(platform)
    with (
        connection.faults(),
        api.get(url, params=parameters, stream=True, timeout=connection.timeout) as response,
    ):
        if response.status_code != 200:
            raise connection.refusal_in(response, WHAT)
        yield from until_error(response.iter_content(SAVE_READ_SIZE), lambda said: connection.refusal(said, WHAT))


def until_error(pieces: Iterable[bytes], refusal: Callable[[object], LoaderError]) -> Iterator[bytes]:
    """Yield the pieces of a tar; raise what `refusal` makes of the last one if that is an error of the engine.

    The containerd store reports so what it notices after it has begun to respond. A tar ends with zeros.
    """
    suspect = b""
    for piece in pieces:
        if suspect:
            yield suspect
        suspect = piece if piece.startswith(ERROR_START) else b""
        if not suspect:
            yield piece
    if suspect:
        with nonsense_refused():
            said = error_in(json.loads(suspect))
        raise refusal(said)
