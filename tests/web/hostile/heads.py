"""Hostile request lines and headers: missing, repeated, huge, binary, contradictory, or ones that servers trust."""

from __future__ import annotations

from tests.web.hostile.requests import FORM, HOST, JSON_TYPE, LOAD, NAME, Attack, Attacks, head, seeded, with_length

LOAD_PATH, UPLOAD_PATH = f"/load/{NAME}".encode(), f"/upload/{NAME}".encode()
NAMES = (
    *(b"Host", b"Content-Type", b"Content-Length", b"Transfer-Encoding", b"X-Request-ID", b"Origin", b"Expect"),
    *(b"Sec-Fetch-Site", b"Range", b"If-None-Match", b"If-Modified-Since", b"Authorization", b"Cookie", b"Connection"),
    *(b"Upgrade", b"Accept", b"Accept-Encoding", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"),
    *(b"X-Forwarded-Ssl", b"X-Forwarded-Prefix", b"Forwarded", b"SCRIPT_NAME", b"PATH_INFO", b"Script-Name"),
    *(b"X-HTTP-Method-Override", b"Date", b"Content-Encoding", b"Trailer", b"TE", b"Content-Range", b"REMOTE_USER"),
)
VALUES = (
    *(b"", b" ", b",", b";", b"=", b'"', b"0", b"-1", b"%00", b"/", b"*", b"null", b"[", b"http://[", b"http://[::1"),
    *(b"http://localhost:99999999", b"localhost:port", b"localhost@evil", b"xn--", b"..", b"a" * 300, b"\xff\xfe"),
    *(b"100-continue", b"200-ok", b"chunked", b"chunked, chunked", b"identity", b"gzip, chunked", b"close", b"upgrade"),
    *(b"keep-alive", b"h2c", b"bytes=0-0,1-1", b'W/"', b"Basic !!!", b"Bearer " + b"x" * 200, b"https", b"off"),
    *(
        b"multipart/form-data; boundary*=utf-8''%0a%00",
        b'multipart/form-data; boundary="',
        b"application/json; charset=x",
    ),
    *(b"multipart/form-data; boundary*=utf-8''%ed%a0%80", b"multipart/form-data; boundary*0=a; boundary*1=\xff"),
    *(
        b"multipart/form-data; boundary=" + b"b" * 5_000,
        b"127.0.0.1, \x00",
        b'for="[',
        b"Thu, 99 Foo 99999 99:99:99 GMT",
    ),
)
LINES = (
    *(
        b"GET",
        b"GET /",
        b"GET / HTTP/0.9",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.10",
        b"GET  / HTTP/1.1",
        b" GET / HTTP/1.1",
    ),
    *(b"get / HTTP/1.1", b"G\x00T / HTTP/1.1", b"\xff / HTTP/1.1", b"GET http://[ HTTP/1.1", b"GET * HTTP/1.1"),
    *(
        b"CONNECT localhost:80 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET //h/p HTTP/1.1",
    ),
    *(b"GET /?" + b"a" * 9_000 + b" HTTP/1.1", b"A" * 9_000, b"GET /\tHTTP/1.1", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2"),
    *(
        b"GET http://evil/health HTTP/1.1",
        b"GET /health#\xff HTTP/1.1",
        b"POST / HTTP/1.1 HTTP/1.1",
        b"\x16\x03\x01\x02\x00",
    ),
)


def single_headers() -> Attacks:
    """Yield otherwise valid requests with one header, for each name that a server may trust and each odd value."""
    for name in NAMES:
        for value in VALUES:
            line = name + b": " + value + b"\r\n"
            yield Attack("odd header", head(b"GET", b"/status", line))
            yield Attack("odd header of a body", with_length(b"POST", UPLOAD_PATH, FORM, line))


def doubled_headers() -> Attacks:
    """Yield requests that have one header twice with random odd values, which proxies and servers read differently."""
    chance = seeded("doubled headers")
    for name in NAMES:
        for _ in range(12):
            lines = [name + b": " + value + b"\r\n" for value in chance.choices(VALUES, k=2)]
            yield Attack("doubled header", with_length(b"POST", LOAD_PATH, LOAD, JSON_TYPE, *lines))


def binary_headers(count: int) -> Attacks:
    """Yield `count` requests with random bytes in the name and the value of a header."""
    chance = seeded("binary headers")
    for _ in range(count):
        line = bytearray(b"X-Binary-Name: value of it")
        for _ in range(chance.randint(1, 4)):
            line[chance.randrange(len(line))] = chance.randrange(256)
        yield Attack("binary header", head(b"GET", b"/cache", bytes(line) + b"\r\n"))


def huge_headers() -> Attacks:
    """Yield requests whose headers are too long, too many, folded or never end."""
    for size in (4_000, 8_190, 8_191, 9_000, 70_000, 1_000_000):
        yield Attack("huge header", head(b"GET", b"/health", b"X-Huge: " + b"h" * size + b"\r\n"))
        yield Attack("huge name", head(b"GET", b"/health", b"X" * size + b": 1\r\n"))
        yield Attack("header without an end", b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"h" * size)
    for count in (99, 100, 101, 5_000):
        yield Attack("many headers", head(b"GET", b"/health", *(b"X-%d: 1\r\n" % number for number in range(count))))
        yield Attack("folded header", head(b"GET", b"/health", b"X: 1\r\n", b" folded\r\n" * count))


def request_lines() -> Attacks:
    """Yield requests with an odd request line or with a method that the path does not have."""
    for line in LINES:
        for end in (b"\r\n", b"\n", b"\r", b""):
            yield Attack("odd request line", line + end + HOST + end)
    for method in (b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"X" * 19, b"X" * 200):
        for path in (b"/", b"/health", b"/login", b"/lock", b"/unlock", LOAD_PATH, UPLOAD_PATH, b"/cache/clear"):
            yield Attack("other method", with_length(method, path, LOAD, JSON_TYPE))


def garbage(count: int) -> Attacks:
    """Yield `count` runs of random bytes, some of them after the valid beginning of a request."""
    chance = seeded("garbage")
    for _ in range(count):
        start = chance.choice((b"", b"GET ", b"POST /login HTTP/1.1\r\n", head(b"GET", b"/health")[:-2]))
        yield Attack("garbage", start + chance.randbytes(chance.randint(1, 200)))
