"""The test vectors of `images.enc`, made by the reference implementation alone. `make_vectors` writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.crypto.reference import HEADER, MIB, TAG, pattern
from tests.crypto.reference_archive import (
    FRAGMENT,
    ROOT,
    ReferenceBlob,
    ReferenceImage,
    archive_of,
    assembled,
    blobs_of,
    digest,
    framed_json,
    head_of,
    joined,
    key_check,
    mac_of,
    piece_digest,
    root_id,
    seals_of,
    stored_gzip,
)
from tests.crypto.vectors_format import ArchiveVector, BlobVector, SealsVector

FIRST = MIB - HEADER - TAG
OTHER_FRAGMENT = bytes(range(48))
OTHER_ROOT = bytes(range(1, 33))
TEXT = pattern(300)
# 1,000 zeros as zlib 1.3 packs them at level 1; it stands here because other builds of zlib pack them otherwise.
GZIP_OF_ZEROS = bytes.fromhex("1f8b080000000000040363601805a321301a02c33d040080170b06e8030000")
APP = ReferenceImage("docker.io/azaion/app:1.4.2", (ReferenceBlob(TEXT, stored_gzip(TEXT)),))
NEXT = ReferenceImage("docker.io/azaion/app:1.4.3", (ReferenceBlob(pattern(200)),))


def blob_vectors() -> list[BlobVector]:
    """Blobs around the size of a segment, of both codecs, and damaged ones."""
    sizes = [0, 1, 300, FIRST, FIRST + 1, FIRST + MIB - TAG + 1]
    good = [blob_vector(f"{size} bytes", ReferenceBlob(pattern(size))) for size in sizes]
    two = stored_gzip(TEXT[:100]) + stored_gzip(TEXT[100:])
    packed = {
        "one gzip member": ReferenceBlob(TEXT, stored_gzip(TEXT)),
        "two gzip members": ReferenceBlob(TEXT, two),
        "an empty gzip member": ReferenceBlob(b"", stored_gzip(b"")),
        "a deflated gzip member": ReferenceBlob(bytes(1000), GZIP_OF_ZEROS),
    }
    good += [blob_vector(name, blob) for name, blob in packed.items()]
    good.append(blob_vector("another root", ReferenceBlob(TEXT), OTHER_ROOT))
    return good + [blob_vector(name, blob, reason=reason) for name, (blob, reason) in wrong_gzip().items()]


def wrong_gzip() -> dict[str, tuple[ReferenceBlob, str]]:
    """Return blobs whose packed bytes are authentic and are not gzip of exactly the content."""
    whole = stored_gzip(TEXT)
    return {
        "gzip of a byte more": (ReferenceBlob(TEXT, stored_gzip(TEXT + b"x")), "holds more than it announces"),
        "a member behind the content": (ReferenceBlob(TEXT, whole + stored_gzip(b"x")), "holds more than it announces"),
        "gzip of a byte less": (ReferenceBlob(TEXT, stored_gzip(TEXT[:-1])), "holds less than it announces"),
        "gzip that is cut": (ReferenceBlob(TEXT, whole[:-1]), "gzip is cut short"),
        "gzip of another check sum": (ReferenceBlob(TEXT, whole[:-8] + b"\0\0\0\0" + whole[-4:]), "gzip is damaged"),
        "a byte behind the gzip": (ReferenceBlob(TEXT, whole + b"\0"), "gzip is"),
        "no gzip at all": (ReferenceBlob(TEXT, TEXT), "gzip is damaged"),
        "no byte of gzip": (ReferenceBlob(b"", b""), "gzip is cut short"),
    }


def blob_vector(name: str, blob: ReferenceBlob, root: bytes = ROOT, reason: str = "") -> BlobVector:
    """Return the vector of a blob, which is refused for `reason` if there is one."""
    cipher, entry = blob.cipher(root), blob.entry(root)
    return BlobVector(
        name,
        "corrupt" if reason else "content",
        reason,
        root,
        blob.content,
        entry["codec"],
        blob.packed,
        cipher.key_material,
        cipher.header,
        cipher.associated_data,
        blob.stored(root),
        entry,
    )


def seals_vectors() -> list[SealsVector]:
    """Seals under several fragments and roots, and seals that do not belong to their head."""
    head, seals = framed_json(head_of([APP])), seals_of(framed_json(head_of([APP])))
    later = framed_json(head_of([NEXT]))
    other_named = framed_json(head_of([APP], OTHER_ROOT))
    other_root = seals_of(head, OTHER_ROOT)["key"]["root"]
    unbound = seals_of(other_named, ROOT)["key"]["root"]
    return [
        seals_vector("a fragment of 32 bytes", head, seals),
        seals_vector("a fragment of 48 bytes", head, seals_of(head, fragment=OTHER_FRAGMENT), fragment=OTHER_FRAGMENT),
        seals_vector("another root", other_named, seals_of(other_named, OTHER_ROOT), root=OTHER_ROOT),
        seals_vector("a later head of the same root", later, seals_of(later)),
        seals_vector("another fragment", head, seals, fragment=OTHER_FRAGMENT, reason="another key fragment"),
        seals_vector("the MAC of a later head", head, seals | {"mac": mac_of(later, FRAGMENT)}, reason=MAC),
        seals_vector("the MAC of another fragment", head, seals | {"mac": mac_of(head, OTHER_FRAGMENT)}, reason=MAC),
        seals_vector("a root that the head does not name", head, with_root(seals, other_root), reason="another one"),
        seals_vector("a root sealed for another head", head, with_root(seals, unbound), reason=UNSEALED),
        seals_vector(
            "a root sealed under another fragment",
            head,
            with_root(seals, seals_of(head, fragment=OTHER_FRAGMENT)["key"]["root"]),
            reason=UNSEALED,
        ),
    ]


ANOTHER = "not the one that its head names"
MAC = "head does not authenticate"
UNSEALED = "root does not authenticate"


def with_root(seals: dict[str, Any], sealed: str) -> dict[str, Any]:
    """Return `seals` with another sealed root."""
    return seals | {"key": seals["key"] | {"root": sealed}}


def seals_vector(
    name: str, head: bytes, seals: dict[str, Any], *, root: bytes = ROOT, fragment: bytes = FRAGMENT, reason: str = ""
) -> SealsVector:
    """Return the vector of a head with its length and of its seals, which are refused for `reason` if there is one."""
    outcome = "root" if not reason else "key mismatch" if "fragment" in reason else "corrupt"
    follows = (root_id(root), key_check(fragment), mac_of(head, fragment))
    return SealsVector(name, outcome, reason, fragment, root, *follows, head, framed_json(seals))


def archive_vectors() -> list[ArchiveVector]:
    """Archives with all, some and none of their blobs, and ones that must be refused."""
    contents = [digest(blob.content) for blob in blobs_of([APP])]
    twice = head_of([APP])
    twice["images"].append({"reference": "docker.io/azaion/app:latest", "manifest": twice["images"][0]["manifest"]})
    stored = [blob.stored() for blob in blobs_of([APP])]
    good = {
        "full": archive_of([APP]),
        "one image under two names": assembled(twice, stored),
        "thin": thin(contents[:2]),
        "head alone": thin([]),
    }
    held = [contents, contents, contents[:2], []]
    complete = [
        ArchiveVector(
            name, *(("contents", "") if there == contents else ("incomplete", "lacks")), FRAGMENT, there, data
        )
        for (name, data), there in zip(good.items(), held, strict=True)
    ]
    mismatch = ArchiveVector(
        "another fragment", "key mismatch", "another key fragment", OTHER_FRAGMENT, [], good["full"]
    )
    wrong = {**wrong_files(good["full"]), **wrong_heads(), **wrong_contents()}
    refused = [ArchiveVector(name, "corrupt", reason, FRAGMENT, [], data) for name, (data, reason) in wrong.items()]
    return [*complete, mismatch, *refused]


def thin(present: list[str]) -> bytes:
    """Return the archive of `APP` with these blobs only."""
    head = framed_json(head_of([APP]))
    blobs = [blob.stored() for blob in blobs_of([APP]) if digest(blob.content) in present]
    return joined(head, framed_json(seals_of(head)), [bytes.fromhex(piece_digest(blob)) for blob in blobs], blobs)


def wrong_files(full: bytes) -> dict[str, tuple[bytes, str]]:
    """Return archives whose parts do not fit, and what the loader says."""
    head, blobs = framed_json(head_of([APP])), [blob.stored() for blob in blobs_of([APP])]
    seals, present = framed_json(seals_of(head)), [bytes.fromhex(piece_digest(blob)) for blob in blobs]
    return {
        "format 1": (b"AZIMAGE1" + full[8:], "does not start with AZIMAGE2"),
        "last byte cut off": (full[:-1], "bytes instead of"),
        "a byte added": (full + b"\0", "bytes instead of"),
        "list of blobs in another order": (joined(head, seals, present[::-1], blobs[::-1]), "not that of its head"),
        "a blob twice": (joined(head, seals, [*present, present[-1]], [*blobs, blobs[-1]]), "not that of its head"),
        "a blob of another archive": (
            joined(head, seals, [*present, bytes(32)], [*blobs, b""]),
            "not that of its head",
        ),
        "half a digest in the list": (joined(head, seals, [present[0][:16]], []), "list of blobs is malformed"),
        "the blobs in another order than listed": (joined(head, seals, present, blobs[::-1]), ANOTHER),
        "last byte flipped": (full[:-1] + bytes([full[-1] ^ 1]), ANOTHER),
        "the head of another time": (full.replace(b"2026-03-01T", b"2026-03-02T"), MAC),
    }


def wrong_heads() -> dict[str, tuple[bytes, str]]:
    """Return archives whose authentic head breaks a rule, and what the loader says."""
    return {name: (changed_head(change), reason) for name, (change, reason) in HEAD_CHANGES.items()}


HEAD_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field added": (lambda head: head.update(further=1), "exactly the fields"),
    "format 3": (lambda head: head.update(format=3), "format"),
    "no image": (lambda head: head.update(images=[]), "images"),
    "an image twice in full": (
        lambda head: head["images"].append(head["images"][0] | {"reference": "a.b/c:1"}),
        "images",
    ),
    "a name twice": (lambda head: head["images"].append(short(head, head["images"][0]["reference"])), "images"),
    "a short form before the full one": (lambda head: head["images"].insert(0, short(head, "a.b/c:1")), "manifest"),
    "a blob that no image has": (lambda head: head["blobs"].append(ReferenceBlob(b"x").entry()), "blobs"),
    "a blob that is not listed": (lambda head: head["blobs"].pop(), "blobs"),
    "a name that is not full": (lambda head: head["images"][0].update(reference="azaion/app:1.4.2"), "reference"),
    "a serial of 2^53": (lambda head: head["release"].update(serial=1 << 53), "serial"),
}


def short(head: dict[str, Any], reference: str) -> dict[str, Any]:
    """Return the short form of the first image of `head` under another name."""
    return {"reference": reference, "manifest": head["images"][0]["manifest"]}


def changed_head(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the archive of `APP` with authentic seals of a changed head."""
    head = head_of([APP])
    change(head)
    return assembled(head, [blob.stored() for blob in blobs_of([APP])])


def wrong_contents() -> dict[str, tuple[bytes, str]]:
    """Return archives in which all is authentic and some content is not what the head says."""
    head = head_of([APP])
    head["images"][0]["created"] = "2026-02-28T08:00:00.6Z"
    archive = assembled(head, [blob.stored() for blob in blobs_of([APP])])
    return {"a configuration of another time": (archive, "configuration of")}
