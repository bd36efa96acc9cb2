"""A FaultyApi that takes uploads in parts, as docs/resource-api.md describes them, with everything in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.support.fault_server import SeenRequest
from tests.support.faulty_api import Fault, FaultyApi

KIB = 1 << 10
_PATH = re.compile(r"/uploads/(?P<upload>[^/]+)(?P<rest>/urls|/complete|/parts/(?P<number>\d+))?")


@dataclass
class FakeUpload:
    """An upload that was started: the parts that came, and the name of its object."""

    name: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)
    completed: bool = False


class UploadApi(FaultyApi):
    """A running API. `uploads` has those that were started and neither completed nor removed; `removed` the latter.

    `smallest` and `largest` are the sizes of parts. `lies` has numbers of parts whose next ETag is a lie. Addresses
    have the query `generation`, and those of an earlier `generation` are refused with `expired_status`.
    `store` is the base URL of the addresses; empty: they are paths at the API itself.
    """

    def __init__(self, **options: Any) -> None:
        """Start listening."""
        super().__init__(**options)
        self.smallest, self.largest = 128 * KIB, 512 * KIB
        self.uploads: dict[str, FakeUpload] = {}
        self.removed: list[str] = []
        self.lies: set[int] = set()
        self.generation = 0
        self.store = ""
        self.expired_status = 403
        self._started = 0

    def reset(self) -> None:
        """Forget the uploads too."""
        super().reset()
        with self.lock:
            self.uploads.clear()
            self.removed.clear()
            self.lies.clear()

    def parts_sent(self) -> list[SeenRequest]:
        """Return the requests that sent parts, in their order."""
        return [seen for seen in self.requests("PUT") if "/parts/" in seen.path]

    def healthy_response(self, seen: SeenRequest) -> Fault:
        """Return the response of a healthy resource API."""
        if self.valid_token is not None or not seen.path.startswith("/uploads"):
            healthy = super().healthy_response(seen)
            if healthy.status != 404 or not seen.path.startswith("/uploads"):
                return healthy
        with self.lock:
            if (seen.method, seen.path) == ("POST", "/uploads"):
                return self._start(json.loads(seen.body))
            match = _PATH.fullmatch(seen.path)
            upload = self.uploads.get(match["upload"]) if match else None
            if match is None or upload is None:
                return Fault(404)
            if seen.method == "DELETE":
                del self.uploads[match["upload"]]
                self.removed.append(match["upload"])
                return Fault(204)
            return self._of_upload(seen, match, upload)

    def _start(self, document: dict[str, Any]) -> Fault:
        self._started += 1
        self.uploads[f"upload-{self._started}"] = FakeUpload(document["name"], document["size"])
        return answer(201, upload=f"upload-{self._started}", part_size=self.largest, min_part_size=self.smallest)

    def _of_upload(self, seen: SeenRequest, match: re.Match[str], upload: FakeUpload) -> Fault:
        if match["number"] is not None:
            return self._take_part(seen, int(match["number"]), upload)
        if match["rest"] == "/urls":
            return answer(
                200,
                urls=[
                    {
                        "number": number,
                        "url": f"{self.store}/uploads/{match['upload']}/parts/{number}?generation={self.generation}",
                        "headers": ["Authorization", "Content-Length", "Content-MD5"],
                    }
                    for number in json.loads(seen.body)["parts"]
                    if self.smallest * (number - 1) < upload.size or self.fail()
                ],
            )
        if match["rest"] == "/complete":
            return self._complete(json.loads(seen.body)["parts"], upload)
        listed = [{"number": number, "size": len(data), "etag": etag_of(data)} for number, data in upload.parts.items()]
        return answer(200, parts=listed)

    def fail(self) -> bool:
        """Fail, because a client has asked for the address of a part that the upload cannot have."""
        raise AssertionError

    def _take_part(self, seen: SeenRequest, number: int, upload: FakeUpload) -> Fault:
        if seen.query != f"generation={self.generation}":
            return Fault(self.expired_status)
        if seen.body_bytes != int(seen.headers["content-length"]):
            return Fault(400)
        md5 = hashlib.md5(seen.body, usedforsecurity=False).digest()
        if seen.headers.get("content-md5") != base64.b64encode(md5).decode():
            return Fault(400)
        upload.parts[number] = seen.body
        etag = etag_of(seen.body)
        if number in self.lies:
            self.lies.remove(number)
            etag = etag_of(b"a lie")
        return Fault(200, headers={"ETag": etag})

    def _complete(self, parts: list[dict[str, Any]], upload: FakeUpload) -> Fault:
        numbers = [part["number"] for part in parts]
        if numbers != sorted(set(numbers)) or not parts:
            return Fault(400)
        for part in parts:
            if part["etag"] != etag_of(upload.parts.get(part["number"], b"")):
                return Fault(400)
        whole = b"".join(upload.parts[number] for number in numbers)
        if len(whole) != upload.size:
            return Fault(400)
        self.objects[f"/resources/{upload.name}"] = whole
        upload.completed = True
        return answer(200, name=upload.name)


def etag_of(data: bytes) -> str:
    """Return the ETag of a part, with its quotes."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def answer(status: int, **document: Any) -> Fault:
    """Return a response with this JSON document."""
    return Fault(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
