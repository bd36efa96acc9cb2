"""Presigned URLs: AWS signature version 4 in the query, path style. This module does no input or output.

A client that has such a URL may make one kind of request with it until it expires, and needs no key. See
"Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the API reference of Amazon S3.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


class KeyPair(NamedTuple):
    """The credentials of one account at a store."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        """Leave out the secret key, because logs show such texts."""
        return f"KeyPair({self.access_key!r})"


class Signer(NamedTuple):
    """Signs requests to the store at `endpoint`, a URL without a path, in the name of the owner of `keys`."""

    endpoint: str
    region: str
    keys: KeyPair

    def url(
        self,
        method: str,
        path: str,
        seconds: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        now: datetime | None = None,
    ) -> str:
        """Return a URL for `method` on `path`, which begins with a slash; it is valid for `seconds` from `now` on.

        The request must have exactly the `headers`, whose names are in lower case, and may have others.
        """
        time = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        signed = {"host": urlsplit(self.endpoint).netloc, **(headers or {})}
        names = ";".join(sorted(signed))
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.keys.access_key}/{scope}",
            "X-Amz-Date": time,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": names,
        }
        encoded = "&".join(sorted(f"{_encoded(name)}={_encoded(value)}" for name, value in parameters.items()))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = "\n".join((method, quote(path, safe="/~"), encoded, lines, names, "UNSIGNED-PAYLOAD"))
        to_sign = "\n".join((_ALGORITHM, time, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        signature = hmac.digest(self._key(scope), to_sign.encode(), "sha256").hex()
        return f"{self.endpoint}{quote(path, safe='/~')}?{encoded}&X-Amz-Signature={signature}"

    def _key(self, scope: str) -> bytes:
        key = f"AWS4{self.keys.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def _encoded(text: str) -> str:
    return quote(text, safe="~")
