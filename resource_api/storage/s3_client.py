"""HTTP to an S3-compatible store. The only importer of requests.

The environment has no effect: no proxy, no `.netrc` and no bundle of authorities is taken from it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET  # nosec B405  # see `parsed`

from requests import ConnectionError as RequestsConnectionError
from requests import PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from resource_api.storage.interface import StoreError
from resource_api.storage.s3_signature import Signer

# Seconds: to connect, and of silence.
TIMEOUTS = (5, 60)
# For the calls of this server, whose clock may differ from the store's.
CALL_SECONDS = 300
# Connections that are kept; more are opened when they are needed.
CONNECTIONS = 32
# A page of a list has 1,000 entries with names of up to 1,024 characters.
DOCUMENT_BYTES = 16 << 20


class StoreRefusalError(Exception):
    """The store responded with an error: its HTTP status, and its code, which is empty if the body has none."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"status {status} {code}".strip())
        self.status = status
        self.code = code


class SizedBody(NamedTuple):
    """A request body of known size, which is sent once."""

    size: int
    pieces: Iterable[bytes]


class StoreClient:
    """Sends signed requests to one store. Threads may share it."""

    def __init__(self, signer: Signer, authorities: Path | None) -> None:
        """Make no connection yet. `authorities` is a PEM file; None means the authorities of the package certifi."""
        self.signer = signer
        self._verify: str | bool = True if authorities is None else str(authorities)
        self._adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0)

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: SizedBody | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Response]:
        """Yield the response to a signed request, whose body is not read yet, and close it at the end of the block.

        Raises StoreRefusalError for every status but 2xx, and StoreError if the store does not respond, also if it
        falls silent during the block.
        """
        url = self.signer.url(method, path, CALL_SECONDS, query)
        request = _prepared(method, url, body, headers or {})
        try:
            response = self._sent(request, repeatable=not isinstance(body, SizedBody))
            with response:
                # Stores redirect without a Location, too, which the library takes for a success.
                if not 200 <= response.status_code < 300:
                    raise StoreRefusalError(response.status_code, _code(response))
                yield response
        except RequestException as error:
            # Without the text of `error`, which contains the signed URL.
            raise StoreError(f"the store {self.signer.endpoint} does not respond: {type(error).__name__}") from None

    def _sent(self, request: PreparedRequest, *, repeatable: bool) -> Response:
        try:
            return self._send_once(request)
        except RequestsConnectionError:
            # The store may close a kept connection just as it is used.
            if not repeatable:
                raise
            return self._send_once(request)

    def _send_once(self, request: PreparedRequest) -> Response:
        return self._adapter.send(request, stream=True, timeout=TIMEOUTS, verify=self._verify)


def document(response: Response) -> ET.Element:
    """Return the XML document in the body.

    Raises StoreRefusalError if it is an error, which a store that has sent its status early has no other way to tell,
    and StoreError if it is no document.
    """
    try:
        root = parsed(_content(response, DOCUMENT_BYTES))
    except ET.ParseError as error:
        raise StoreError("the store sent something that is no XML document") from error
    if root.tag.rpartition("}")[2] == "Error":
        raise StoreRefusalError(response.status_code, root.findtext("{*}Code", ""))
    return root


def parsed(content: bytes) -> ET.Element:
    """Parse XML, before which a store may send spaces so that the connection is not taken for dead."""
    # Expat limits the expansion of entities since 2.4.1 and fetches none, and a document has a limited size.
    return ET.fromstring(content.strip())  # noqa: S314  # nosec B314


def _prepared(method: str, url: str, body: SizedBody | bytes | None, headers: Mapping[str, str]) -> PreparedRequest:
    # Set the attributes as they are, because `prepare` would quote the signed URL again, and send pieces in chunks.
    request = PreparedRequest()
    request.method, request.url = method, url
    size = body.size if isinstance(body, SizedBody) else len(body or b"")
    length = {} if method in ("GET", "HEAD") else {"Content-Length": str(size)}
    request.headers = CaseInsensitiveDict({"Accept-Encoding": "identity", **length, **headers})
    # The stub does not know bodies that are sent in pieces.
    request.body = iter(body.pieces) if isinstance(body, SizedBody) else body  # type: ignore[assignment]
    return request


def _code(response: Response) -> str:
    """Return the code of an error; empty if the body has none."""
    try:
        return parsed(_content(response, DOCUMENT_BYTES)).findtext("{*}Code", "")
    except (ET.ParseError, StoreError):
        return ""


def _content(response: Response, limit: int) -> bytes:
    content = bytearray()
    for piece in response.iter_content(1 << 16):
        content += piece
        if len(content) > limit:
            raise StoreError("the store sent a document that is too long")
    return bytes(content)
