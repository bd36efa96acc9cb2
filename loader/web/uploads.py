"""POST /upload/{filename}, and POST /upload/{filename}/offset for clients that come back."""

from __future__ import annotations

import re

from flask import Blueprint, request

from loader import api_client
from loader.crypto.model_parts import ResourceName
from loader.logs import failures_audited
from loader.resources import ResourceStore
from loader.uploads.keeping import KeptUploads
from loader.uploads.kept import Turn
from loader.web.bodies import check_path, invalid, json_body
from loader.web.guard import TransferSlots
from loader.web.model_schemas import UploadOffsetResponse
from loader.web.request_schemas import LoadRequest
from loader.web.service_schemas import OkResponse
from loader.web.upload_form import StreamedForm

OFFSET_HEADER = "Upload-Offset"
PREFIX_HEADER = "Upload-Prefix-SHA256"
_OFFSET = re.compile(r"0|[1-9][0-9]{0,17}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def blueprint(store: ResourceStore, slots: TransferSlots) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("uploads", __name__)
    kept = KeptUploads(store.store)

    @routes.post("/upload/<filename>")
    def upload(filename: str) -> dict[str, object]:
        """Store a resource, which is encrypted while it arrives."""
        with failures_audited("upload", filename, api_client.user()) as audit, slots.take():
            check_path(filename)
            offset, digest = _place()
            form = StreamedForm()
            if offset is None:
                name, audit.size = store.store(filename, form)
            else:
                with _turn(kept, filename, form, offset, digest) as turn:
                    turn.bring(form.file_pieces())
                    form.folder_at_end()
                    name, audit.size = turn.finish()
            audit.file = name.path
        audit.write("ok")
        return dict(OkResponse().dump({"status": "ok"}))

    @routes.post("/upload/<filename>/offset", endpoint="offset")
    def place(filename: str) -> dict[str, object]:
        """Where the client of an upload goes on. Ends the connection that it had before."""
        check_path(filename)
        body = json_body(LoadRequest(filename))
        return dict(UploadOffsetResponse().dump(kept.place(ResourceName(body["folder"], filename))))

    return routes


def _turn(kept: KeptUploads, filename: str, form: StreamedForm, offset: int, digest: str) -> Turn:
    """Begin an upload that is kept, or go on with one."""
    folder = form.folder_if_first()
    if folder is None:
        raise invalid({"folder": [f"Must come before the file in an upload with {OFFSET_HEADER}."]})
    name = ResourceName(folder, filename)
    return kept.resume(name, offset, digest) if offset else kept.begin(name, form)


def _place() -> tuple[int | None, str]:
    """Return the offset in the headers, None without one, and the SHA-256 of what is before it, in hex.

    Raises ValidationFailed.
    """
    offset, digest = request.headers.get(OFFSET_HEADER), request.headers.get(PREFIX_HEADER)
    if offset is not None and not _OFFSET.fullmatch(offset):
        raise invalid({OFFSET_HEADER: ["Must be a number of bytes."]})
    is_wanted = offset not in (None, "0")
    if (digest is not None or is_wanted) and not _SHA256.fullmatch(digest or ""):
        raise invalid({PREFIX_HEADER: ["Must be the SHA-256 of the bytes before the offset, in hex."]})
    return None if offset is None else int(offset), digest or ""
