"""A fake S3 store in memory with the answers of the strictest real one (Ceph RGW), which tests cannot start.

What was seen there: 400 to a bearer beside a presigned query, 411 to a body in chunks, an empty ETag in the response to
the completion of an upload, 206 in spite of an If-Range with another ETag. As everywhere: 403 to a URL that has expired
or is used for another request, no part but the last one below 5 MiB, pages of 1,000 entries.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from resource_api.storage.s3_signature import KeyPair, Signer
from tests.support.fault_server import Exchange, FaultServer

MIN_PART = 5 << 20
PAGE = 1_000
KEYS = {name: KeyPair(f"{name}-access", f"{name}-secret") for name in ("big", "small")}
REGION = "us-east-1"


@dataclass
class StoredUpload:
    """A multipart upload, which stays after its completion, so that it can be repeated."""

    key: str
    parts: dict[int, bytes] = field(default_factory=dict)
    completed: bool = False


class StrictStore(FaultServer):
    """A running store with the buckets `big` and `small`, each of an account of its own.

    objects: key -> content, by bucket. refusals: what was refused so far, for tests that expect none.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, so that connections wait until the `with` block begins."""
        super().__init__(tls=tls)
        self.objects: dict[str, dict[str, bytes]] = {name: {} for name in KEYS}
        self.uploads: dict[str, StoredUpload] = {}
        self.refusals: list[tuple[int, str, str]] = []

    def respond(self, exchange: Exchange) -> None:
        """Respond as Ceph does."""
        seen, headers = exchange.seen, exchange.seen.headers
        query = dict(parse_qsl(seen.query, keep_blank_values=True))
        bucket, _, key = unquote(seen.path).removeprefix("/").partition("/")
        self.note(seen)
        status, code, body = HTTPStatus.OK, "", b""
        extra: dict[str, str] = {}
        if "authorization" in headers:
            status, code = HTTPStatus.BAD_REQUEST, "InvalidArgument"
        elif seen.method in ("PUT", "POST") and "content-length" not in headers:
            status, code = HTTPStatus.LENGTH_REQUIRED, "MissingContentLength"
        elif bucket not in KEYS or not self._is_signed(exchange, query, bucket):
            status, code = HTTPStatus.FORBIDDEN, "AccessDenied"
        else:
            exchange.read_body()
            if seen.body_bytes != int(headers.get("content-length", "0")):
                return
            with self.lock:
                status, code, body, extra = self._handle(exchange, query, bucket, key)
        if code:
            self.refusals.append((status, code, f"{seen.method} {seen.path}"))
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
        if seen.method == "HEAD":
            exchange.send_head(status, {"Content-Length": str(len(body)), **extra})
        else:
            exchange.send_whole(status, body, extra)

    def _is_signed(self, exchange: Exchange, query: dict[str, str], bucket: str) -> bool:
        seen, signature = exchange.seen, query.get("X-Amz-Signature", "")
        try:
            made = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            seconds, names = int(query["X-Amz-Expires"]), query["X-Amz-SignedHeaders"].split(";")
        except (KeyError, ValueError):
            return False
        rest = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
        signed = {name: seen.headers.get(name, "") for name in names if name != "host"}
        signer = Signer(f"http://{seen.headers['host']}", REGION, KEYS[bucket])
        expected = signer.url(seen.method, unquote(seen.path), seconds, rest, signed, now=made)
        return expected.endswith(f"={signature}") and datetime.now(UTC) < made + timedelta(seconds=seconds)

    def _handle(self, exchange: Exchange, query: dict[str, str], bucket: str, key: str) -> Answer:
        method, objects = exchange.seen.method, self.objects[bucket]
        if "uploadId" in query or "uploads" in query:
            return self._multipart(exchange, query, bucket, key)
        if not key:
            return self._list(query, objects)
        if method == "PUT":
            objects[key] = exchange.seen.body
            return HTTPStatus.OK, "", b"", {"ETag": etag_of(objects[key])}
        if method == "DELETE":
            objects.pop(key, None)
            return HTTPStatus.NO_CONTENT, "", b"", {}
        if key not in objects:
            return HTTPStatus.NOT_FOUND, "NoSuchKey", b"", {}
        return self._get(exchange, objects[key])

    def _get(self, exchange: Exchange, content: bytes) -> Answer:
        headers = {"ETag": etag_of(content), "Content-Type": "binary/octet-stream"}
        if exchange.seen.method == "HEAD":
            return HTTPStatus.OK, "", b"", {**headers, "Content-Length": str(len(content))}
        # If-Range is not looked at.
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.seen.headers.get("range", ""))
        if wanted is None:
            return HTTPStatus.OK, "", content, headers
        begin, end = int(wanted[1]), min(int(wanted[2] or len(content)) + 1, len(content))
        if begin >= len(content):
            return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange", b"", {}
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        return HTTPStatus.PARTIAL_CONTENT, "", content[begin:end], headers

    def _list(self, query: dict[str, str], objects: dict[str, bytes]) -> Answer:
        after = query.get("continuation-token", "")
        keys = [key for key in sorted(objects) if key.startswith(query.get("prefix", "")) and key > after]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key])}</Size></Contents>" for key in keys[:PAGE]
        )
        return document("ListBucketResult", entries + marker(keys, "NextContinuationToken"))

    def _multipart(self, exchange: Exchange, query: dict[str, str], bucket: str, key: str) -> Answer:
        seen = exchange.seen
        if "uploads" in query and seen.method == "POST":
            upload_id = f"2~{secrets.token_urlsafe(24)}"
            self.uploads[upload_id] = StoredUpload(key)
            return document("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        if "uploads" in query:
            going = {each: upload for each, upload in self.uploads.items() if not upload.completed}
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            entries = (
                f"<Upload><Key>{upload.key}</Key><UploadId>{each}</UploadId><Initiated>{now}</Initiated></Upload>"
                for each, upload in going.items()
            )
            return document("ListMultipartUploadsResult", "".join(entries))
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload.key != key:
            return HTTPStatus.NOT_FOUND, "NoSuchUpload", b"", {}
        if seen.method == "PUT":
            upload.parts[int(query["partNumber"])] = seen.body
            return HTTPStatus.OK, "", b"", {"ETag": etag_of(seen.body)}
        if seen.method == "DELETE":
            del self.uploads[query["uploadId"]]
            return HTTPStatus.NO_CONTENT, "", b"", {}
        if seen.method == "GET":
            entries = (
                f"<Part><PartNumber>{n}</PartNumber><Size>{len(part)}</Size><ETag>{etag_of(part)}</ETag></Part>"
                for n, part in sorted(upload.parts.items())
            )
            return document("ListPartsResult", "".join(entries))
        return self._complete(seen.body.decode(), upload, bucket)

    def _complete(self, body: str, upload: StoredUpload, bucket: str) -> Answer:
        named = re.findall(r"<PartNumber>(\d+)</PartNumber><ETag>([^<]*)</ETag>", body)
        parts = [upload.parts.get(int(number), b"") for number, _ in named]
        if [etag_of(part) for part in parts] != [etag.replace("&quot;", '"') for _, etag in named] or not named:
            return HTTPStatus.BAD_REQUEST, "InvalidPart", b"", {}
        if any(len(part) < MIN_PART for part in parts[:-1]):
            return HTTPStatus.BAD_REQUEST, "EntityTooSmall", b"", {}
        self.objects[bucket][upload.key] = b"".join(parts)
        upload.completed = True
        return document("CompleteMultipartUploadResult", f"<Key>{upload.key}</Key><ETag></ETag>")


Answer = tuple[HTTPStatus, str, bytes, dict[str, str]]


def etag_of(content: bytes) -> str:
    """Return the ETag with its quotes."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def marker(keys: list[str], name: str) -> str:
    """Return what says whether there is another page."""
    if len(keys) <= PAGE:
        return "<IsTruncated>false</IsTruncated>"
    return f"<IsTruncated>true</IsTruncated><{name}>{escape(keys[PAGE - 1])}</{name}>"


def document(name: str, content: str) -> Answer:
    """Return a document, before which stores may send spaces."""
    text = f"\n  <?xml version='1.0'?><{name} xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{content}</{name}>"
    return HTTPStatus.OK, "", text.encode(), {"Content-Type": "application/xml"}
