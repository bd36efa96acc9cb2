"""Names of files and folders: which are accepted, which are refused, and that a bad one never reaches the API."""

from __future__ import annotations

import json

import pytest
from marshmallow import ValidationError

from loader.web.request_schemas import check_folder, check_name
from tests.support.http_calls import call, form, load, part, post_form, post_json, upload
from tests.support.sites import Site

LONGEST = "n" * 128
GOOD_NAMES = ["a", "7", "a.", LONGEST, "Model-1.2_final.onnx", "a.b.c", "a-", "A--__b"]
BAD_NAMES = [
    "",
    "n" * 129,
    ".",
    "..",
    ".hidden",
    "-flag",
    "_x",
    "a..b",
    "a..",
    "a/b",
    "/a",
    "a/",
    "a\\b",
    "a\0b",
    "a\r\nb",
    "a\n",
    "a b",
    " a",
    "a?b",
    "a%2e",
    "%2e%2e",
    "m\u00e9",
    "\uff41",
    "\u0663",
    "a\u2028",
]
LONGEST_FOLDER = "/".join([*["f" * 127] * 6, "f" * 90])  # 858 characters
GOOD_FOLDERS = ["", "m", "models/day", LONGEST, LONGEST_FOLDER, "1/2/3/4/5/6"]
BAD_FOLDERS = [name for name in BAD_NAMES if name not in ("", "a/b")] + [
    "a//b",
    "a/../b",
    "a/.b",
    f"a/{'n' * 129}",
    "/",
    LONGEST_FOLDER + "f",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names_are_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        check_name(name)


@pytest.mark.parametrize("folder", GOOD_FOLDERS)
def test_good_folders_are_accepted(folder: str) -> None:
    check_folder(folder)


@pytest.mark.parametrize("folder", BAD_FOLDERS, ids=ascii)
def test_bad_folders_are_refused(folder: str) -> None:
    with pytest.raises(ValidationError):
        check_folder(folder)


@pytest.mark.parametrize(
    ("folder", "filename"),
    [
        *(("names", name) for name in GOOD_NAMES),
        *((folder, "name") for folder in GOOD_FOLDERS),
        (LONGEST_FOLDER, LONGEST),
    ],
)
def test_good_names_reach_the_api_unchanged(site: Site, folder: str, filename: str) -> None:
    content = f"{folder}|{filename}".encode() * 4_000  # with a big object, whose name is the longest
    assert upload(site.url, folder, filename, content).status == 200
    assert load(site.url, folder, filename).body == content
    assert site.stored(f"{folder}/{filename}.small" if folder else f"{filename}.small").is_file()


def percent_encoded(name: str) -> str:
    """Encode every byte, so that no client or server normalises the path."""
    return "".join(f"%{byte:02x}" for byte in name.encode())


@pytest.mark.parametrize("filename", BAD_NAMES, ids=ascii)
def test_a_bad_filename_is_refused_without_a_request_to_the_api(site: Site, filename: str) -> None:
    site.api.forget_requests()
    path = percent_encoded(filename)
    body = form(part("folder", b"m"), part("file", b"x", filename="x"))
    replies = [
        post_json(site.url, f"/load/{path}", {"filename": filename, "folder": "m"}),
        post_form(site.url, f"/upload/{path}", body),
    ]
    for reply in replies:
        if "/" in filename or not filename:
            reply.problem(404, "NOT_FOUND")  # such a path has another number of components
        else:
            assert set(reply.problem(422, "VALIDATION_FAILED")["errors"]) == {"filename"}
    in_body = post_json(site.url, "/load/good", {"filename": filename, "folder": "m"})
    assert set(in_body.problem(422, "VALIDATION_FAILED")["errors"]) == {"filename"}
    assert site.api.requests() == []


@pytest.mark.parametrize("path", ["..", "%2e%2e", "%252e%252e", ".%2e", "a%00", "%ff", "%5c..%5cx", "a%0d%0ab"])
@pytest.mark.parametrize("verb", ["load", "upload"])
def test_bad_path_is_refused_however_it_is_written(site: Site, verb: str, path: str) -> None:
    site.api.forget_requests()
    body = json.dumps({"filename": "x", "folder": "m"}).encode()
    reply = call(site.url, "POST", f"/{verb}/{path}", body, {"Content-Type": "application/json"})
    assert set(reply.problem(422, "VALIDATION_FAILED")["errors"]) == {"filename"}
    assert site.api.requests() == []


@pytest.mark.parametrize("folder", BAD_FOLDERS, ids=ascii)
def test_a_bad_folder_is_refused_without_a_request_to_the_api(site: Site, folder: str) -> None:
    site.api.forget_requests()
    replies = [load(site.url, folder, "x")]
    replies += [upload(site.url, folder, "x", b"content", file_first=order) for order in (False, True)]
    for reply in replies:
        assert set(reply.problem(422, "VALIDATION_FAILED")["errors"]) == {"folder"}
    assert site.api.requests() == []


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"filename": "other", "folder": "m"}, {"filename"}),
        ({"filename": "X", "folder": "m"}, {"filename"}),
        ({"folder": "m"}, {"filename"}),
        ({"filename": "x"}, {"folder"}),
        ({"filename": None, "folder": ["m"]}, {"filename", "folder"}),
        ({"filename": "..", "folder": ".."}, {"filename", "folder"}),
        ({"filename": "x", "folder": "m", "key": "k"}, {"key"}),
        (["x", "m"], {"body"}),
    ],
)
def test_load_request_that_disagrees_is_refused(site: Site, document: object, fields: set[str]) -> None:
    site.api.forget_requests()
    assert set(post_json(site.url, "/load/x", document).problem(422, "VALIDATION_FAILED")["errors"]) == fields
    assert site.api.requests() == []
