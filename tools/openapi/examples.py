"""Examples of what goes over the wire."""

from __future__ import annotations

from loader.version import VERSION

FILENAME = "model.onnx"
REQUEST_ID = "5f0c9e0f6f0e4c0c9d6c6a1f0f9b6f3e"
CREDENTIALS = {"email": "operator@example.com", "password": "correct horse"}

LAST_EVENT = {
    "at": "2025-01-31T08:15:00+00:00",
    "outcome": "ok",
    "code": None,
    "reason": None,
    "user": CREDENTIALS["email"],
    "client": "127.0.0.1",
    "version": None,
    "seconds": None,
    "request_id": REQUEST_ID,
    "hint": None,
}

STATUS = {
    "status": "healthy",
    "version": VERSION,
    "device": "device-7",
    "api": "api.example.com",
    "authenticated": True,
    "refused": None,
    "last": {
        "login": {**LAST_EVENT, "seconds": 0.412},
        "unlock": {**LAST_EVENT, "version": "1.4", "seconds": 41.2},
        "fetch": None,
    },
    "modelCacheDir": "/opt/azaion/models",
    "cache": {
        "entries": 2,
        "bytes": 734003200,
        "downloads": [
            {"filename": "day/model.onnx", "bytes_done": 104857600, "bytes_total": 524288000, "rate": 5242880}
        ],
    },
}

MODELS = {
    "models": [
        {
            "folder": "day",
            "filename": FILENAME,
            "size": 524288000,
            "serial": 1738256400000,
            "created": "2025-01-30T17:00:00Z",
            "etag": '"f60cd1e2a2d5e4ba4bd5f4d6b9a4e5ff0f7e30e2a4ff6d3a8b9fb7f1f2d0c3b1"',
            "cached": True,
            "code": None,
            "hint": None,
        }
    ]
}

UNLOCK = {"state": "authenticating", "authenticated": False, "proven": False, "started": True}

UNLOCK_CANCEL = {"state": "decrypting", "authenticated": True, "proven": False}

UNLOCK_STATUS = {
    "state": "decrypting",
    "authenticated": True,
    "proven": False,
    "error": None,
    "code": None,
    "retryable": None,
    "hint": None,
    "step": {"number": 4, "of": 5, "name": "decrypting"},
    "bytes_done": 314572800,
    "bytes_total": 3145728000,
    "percent": 10,
    "rate": 157286400,
    "eta_seconds": 18.0,
    "activity": None,
    "silent_seconds": 0.1,
    "started_at": "2025-01-31T08:15:00.000+00:00",
    "updated_at": "2025-01-31T08:15:03.250+00:00",
    "duration_seconds": {"checking": 0.1, "authenticating": 0.7, "downloading_key": 0.2, "decrypting": 2.25},
}

FETCH = {"state": "checking", "version": "1.4"}

FETCH_STATUS = {
    "state": "downloading",
    "version": "1.4",
    "release": {"version": "1.4", "serial": 1738256400, "created": "2025-01-30T17:00:00+00:00"},
    "error": None,
    "code": None,
    "retryable": None,
    "hint": None,
    "step": {"number": 2, "of": 3, "name": "downloading"},
    "bytes_done": 10485760,
    "bytes_total": 20976640,
    "percent": 49,
    "rate": 1048576,
    "eta_seconds": 10.0,
    "activity": "waiting for the resource API, or for loads of models, which go first",
    "silent_seconds": 0.1,
    "started_at": "2025-01-31T08:15:00.000+00:00",
    "updated_at": "2025-01-31T08:15:11.250+00:00",
    "duration_seconds": {"checking": 1.25, "downloading": 10.0},
}

UNLOCK_PLAN = {
    "archive": "/opt/azaion/images.enc",
    "release": {
        "version": "1.4",
        "serial": 1738256400,
        "created": "2025-01-30T17:00:00+00:00",
        "head": "9d4e1a7c5b3f2081e6a9c8d7b5f4031f2e3d4c5b6a79880716253443526170af",
    },
    "older_than": None,
    "work": {"to_read": 9437184, "to_send": 20976640, "to_unpack": 20971520},
    "seconds": 4.5,
    "mode": "tar",
    "images": [
        {
            "reference": "registry.example/app:1.4",
            "config": "sha256:6f1d0c3ad3b5cf1f0b1a3f4f1c8b9a6e2d7c5e4b3a291807f6e5d4c3b2a19080",
            "platform": "linux/arm64",
            "created": "2025-01-30T16:58:41Z",
            "present": False,
            "size": 1048000000,
            "to_send": 20976640,
            "update": True,
        }
    ],
    "places": [
        {
            "paths": ["/opt/azaion", "/opt/azaion/models"],
            "needed": 21238784,
            "free": 8589934592,
            "writable": True,
            "takes_files": True,
            "fits": True,
        },
    ],
    "warnings": [],
    "engine_answers": True,
    "done": False,
    "fits": True,
    "failure": None,
}

RELEASES = {"present": UNLOCK_PLAN["release"], "previous": None}

UNLOCK_BACK = {
    "present": {
        "version": "1.3",
        "serial": 1735664400,
        "created": "2024-12-31T17:00:00+00:00",
        "images": ["registry.example/app:stable"],
    },
    "previous": {
        "version": "1.4",
        "serial": 1738256400,
        "created": "2025-01-30T17:00:00+00:00",
        "images": ["registry.example/app:stable"],
    },
    "names": ["registry.example/app:stable"],
}

CACHE = {
    "entries": [
        {
            "digest": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "name": f"day/{FILENAME}",
            "bytes": 524222464,
            "whole": True,
            "in_use": False,
            "last_used": "2025-01-31T08:14:00.000+00:00",
        }
    ],
    "bytes": 524222464,
    "max_bytes": 0,
}

NOT_READY = {
    "title": "Service Unavailable",
    "status": 503,
    "detail": "The Docker engine at unix:///var/run/docker.sock does not respond: Permission denied.",
    "code": "ENGINE_UNAVAILABLE",
    "retryable": True,
    "hint": "Give the user of the loader the right to use that socket, often by the group `docker`, and try again.",
    "reasons": ["ENGINE_UNAVAILABLE"],
}

METRICS = """\
# HELP azaion_loader_authenticated 1 if somebody is logged in.
# TYPE azaion_loader_authenticated gauge
azaion_loader_authenticated 1.0
"""
