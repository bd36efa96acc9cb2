"""Names of images in full: `docker.io/library/redis:7` for `redis:7`.

The grammar and the defaults are those of the Docker reference format (distribution/reference, `reference.go`).
"""

from __future__ import annotations

import re

DEFAULT_DOMAIN = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
# In place of the version of a release: whichever is the newest one.
LATEST = "latest"
# Where the loader's own names in an engine lie. RFC 6761, section 6.4, reserves `invalid`, so that nobody has it.
LOADER_DOMAIN = "azaion-loader.invalid"
NAME_MAX_SIZE = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_FULL = re.compile(rf"({_DOMAIN})/({_COMPONENT}(?:/{_COMPONENT})*):({_TAG})")
_VERSION = re.compile(_TAG)
_DIGEST = re.compile(r"@[A-Za-z0-9+._-]+:[0-9a-fA-F]+$")
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")


class MalformedReference(ValueError):
    """A text is not the name of an image. `str()` is a sentence that says what to write instead."""


def full_reference(text: str) -> str:
    """Return the full name and tag that `text` stands for. Raises MalformedReference."""
    if digest := _DIGEST.search(text):
        name = text[: digest.start()]
        raise MalformedReference(
            f"{text} names an image by its digest, which an engine cannot keep; give it a tag, and write {name}:TAG."
        )
    if _IMAGE_ID.fullmatch(text):
        raise MalformedReference(f"{text} is the ID of an image; write its name and tag instead.")
    reference = _completed(text)
    if not _is_well_formed(reference):
        raise MalformedReference(f"{text!r} is not the name of an image; write it as name:tag.")
    return reference


def is_full_reference(text: str) -> bool:
    """Return whether `text` is a well-formed name with its registry and its tag, as `full_reference` writes it."""
    return _is_well_formed(text) and _completed(text) == text


def is_own_reference(reference: str) -> bool:
    """Return whether a full reference is one that the loader itself gives images in an engine."""
    return reference.startswith(f"{LOADER_DOMAIN}/")


def short_reference(reference: str) -> str | None:
    """Return the short name of a full reference to Docker Hub, `redis:7`; None if it has none."""
    domain, _, short = reference.partition("/")
    namespace, _, name = short.rpartition("/")
    short = name if namespace == DEFAULT_NAMESPACE else short
    return short if domain == DEFAULT_DOMAIN and _completed(short) == reference else None


def _completed(text: str) -> str:
    name, tag = split_tag(text)
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DEFAULT_DOMAIN, name
    # The former name of the registry stands for the same images.
    first = DEFAULT_DOMAIN if first == f"index.{DEFAULT_DOMAIN}" else first
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"{DEFAULT_NAMESPACE}/{rest}"
    return f"{first}/{rest}:{DEFAULT_TAG if tag is None else tag}"


def _is_well_formed(reference: str) -> bool:
    found = _FULL.fullmatch(reference)
    return found is not None and len(reference) - len(found[3]) - 1 <= NAME_MAX_SIZE


def is_version(text: str) -> bool:
    """Return whether `text` could be the tag of an image."""
    return _VERSION.fullmatch(text) is not None


def split_tag(text: str) -> tuple[str, str | None]:
    """Return the name and the tag of `text`; the tag is None if it has none."""
    name, colon, tag = text.rpartition(":")
    # A slash behind the last colon means that the colon belongs to the port of a registry.
    return (name, tag) if colon and "/" not in tag else (text, None)
