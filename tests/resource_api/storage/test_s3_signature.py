"""Presigned URLs: the example that AWS publishes, and what the signature covers."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from resource_api.storage.s3_signature import KeyPair, Signer

# "Example: presigned URL" of "Authenticating Requests: Using Query Parameters", API reference of Amazon S3.
KEYS = KeyPair("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
SIGNER = Signer("https://examplebucket.s3.amazonaws.com", "us-east-1", KEYS)
NOW = datetime(2013, 5, 24, tzinfo=UTC)
EXPECTED = (
    "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)


def test_the_published_example_is_signed_as_published() -> None:
    assert SIGNER.url("GET", "/test.txt", 86400, now=NOW) == EXPECTED


@pytest.mark.parametrize(
    "changed",
    [
        SIGNER.url("PUT", "/test.txt", 86400, now=NOW),
        SIGNER.url("GET", "/test.tx", 86400, now=NOW),
        SIGNER.url("GET", "/test.txt", 86401, now=NOW),
        SIGNER.url("GET", "/test.txt", 86400, {"partNumber": "1"}, now=NOW),
        SIGNER.url("GET", "/test.txt", 86400, headers={"content-length": "1"}, now=NOW),
        SIGNER.url("GET", "/test.txt", 86400, now=datetime(2013, 5, 25, tzinfo=UTC)),
        SIGNER._replace(region="eu-west-1").url("GET", "/test.txt", 86400, now=NOW),
        SIGNER._replace(endpoint="https://examplebucket.s3.amazonaws.com:444").url("GET", "/test.txt", 86400, now=NOW),
        SIGNER._replace(keys=KEYS._replace(secret_key="other")).url("GET", "/test.txt", 86400, now=NOW),
    ],
)
def test_another_request_has_another_signature(changed: str) -> None:
    assert changed.rpartition("=")[2] != EXPECTED.rpartition("=")[2]


def test_signed_headers_are_named_in_order() -> None:
    url = SIGNER.url("PUT", "/x", 60, headers={"content-length": "5", "content-md5": "AA=="}, now=NOW)
    assert parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"] == ["content-length;content-md5;host"]


def test_what_is_no_plain_character_is_quoted() -> None:
    url = SIGNER.url("GET", "/a b~/ü+&", 60, {"prefix": "a/b +~", "uploads": ""}, now=NOW)
    assert url.startswith("https://examplebucket.s3.amazonaws.com/a%20b~/%C3%BC%2B%26?")
    assert "&prefix=a%2Fb%20%2B~&" in url
    assert "&uploads=&" in url


def test_the_secret_key_is_in_no_text() -> None:
    assert KEYS.secret_key not in f"{SIGNER} {SIGNER!r} {KEYS!s}"
