"""HTTP to a store: TLS, connections that were closed, and responses that are none."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resource_api.storage.interface import ResourceMissingError, StoreError
from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_signature import Signer
from tests.support.certificates import Authority
from tests.support.strict_store import KEYS, REGION, StrictStore

EMPTY = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "x"\r\n\r\n'


def bucket_at(url: str, authorities: Path | None = None) -> Bucket:
    return Bucket(StoreClient(Signer(url, REGION, KEYS["big"]), authorities), "big")


@contextmanager
def serving(*connections: Callable[[socket.socket], None]) -> Iterator[str]:
    """Let each of the functions handle one connection, one after the other; yield the URL."""

    def serve() -> None:
        for handle in connections:
            with listener.accept()[0] as connection:
                handle(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def responding(*responses: bytes) -> Callable[[socket.socket], None]:
    """Respond to one request after the other; an empty response closes the connection."""

    def handle(connection: socket.socket) -> None:
        for response in responses:
            connection.recv(1 << 16)
            connection.sendall(response)

    return handle


def test_a_store_with_tls_is_trusted_by_its_authorities_only(
    authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing in the environment changes whom the server trusts, or adds credentials.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(authority.path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with StrictStore(authority.sign("store").server_context()) as store:
        with pytest.raises(ResourceMissingError):
            bucket_at(store.url, authority.path).head("x")
        for other in (stranger.path, None):
            with pytest.raises(StoreError, match="SSLError"):
                bucket_at(store.url, other).head("x")
        assert len(store.requests()) == 1


def test_a_kept_connection_that_was_closed_is_replaced_once() -> None:
    with serving(responding(EMPTY, b""), responding(EMPTY)) as url:
        bucket = bucket_at(url)
        assert [bucket.head("x"), bucket.head("x")] == [(0, "x"), (0, "x")]


def test_a_body_in_pieces_is_not_sent_twice() -> None:
    sent = []

    def pieces() -> Iterator[bytes]:
        sent.append(1)
        yield b"x"

    with serving(responding(b"")) as url, pytest.raises(StoreError):
        bucket_at(url).put("x", 1, pieces())
    assert sent == [1]


@pytest.mark.parametrize("status", ["301 Moved Permanently", "304 Not Modified"])
def test_an_object_is_stored_only_if_the_store_says_so(status: str) -> None:
    # Amazon's S3 responds so, without a Location, if the bucket is in another region.
    response = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with serving(responding(response)) as url, pytest.raises(StoreError, match=status[:3]):
        bucket_at(url).put("x", 1, [b"x"])


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n<ListBucketResult>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n<Error><Code>InternalError</Code></Error>       ",
        b"HTTP/1.1 307 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 41\r\n\r\n<Error><Code>NoSuchBucket</Code></Error>  ",
    ],
)
def test_a_list_that_is_none_is_a_failure_of_the_store(response: bytes) -> None:
    with serving(responding(response)) as url, pytest.raises(StoreError) as failed:
        list(bucket_at(url).find(""))
    assert "Signature" not in str(failed.value)


def test_an_object_that_ends_early_is_a_failure_of_the_store() -> None:
    cut, file = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", io.BytesIO()
    with serving(responding(cut)) as url, pytest.raises(StoreError):
        bucket_at(url).get("x", lambda _: file)
    assert file.closed
