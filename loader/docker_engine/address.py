"""Where the engine is: what the environment says, as far as messages may show it. No calls to the engine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from loader.docker_engine.reasons import one_line

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
ADDRESS_MAX_SIZE = 200
# The files in DOCKER_CERT_PATH: the certificate and the key of the loader, and the authority of the engine.
OWN_FILES = ("cert.pem", "key.pem")
AUTHORITY_FILE = "ca.pem"


def shown_address(env: Mapping[str, str]) -> str:
    """Return DOCKER_HOST in one line of at most 200 characters, without credentials, query and fragment."""
    scheme, _, place = _parts(env)
    return one_line(scheme + re.split(r"[?#]", place)[0], ADDRESS_MAX_SIZE)


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """Return `text`, in which an SDK may quote DOCKER_HOST, without the secrets of DOCKER_HOST."""
    if told := _told(env):
        text = text.replace(told, shown_address(env))
    _, credentials, _ = _parts(env)
    parts = (credentials, *re.split("[:/@?#]", credentials))
    return "the address is malformed" if any(len(part) > 1 and part in text for part in parts) else text


def require_certificates(env: Mapping[str, str]) -> None:
    """Raise OSError with its file name if a file that TLS needs cannot be read.

    TLS is on if DOCKER_TLS_VERIFY or DOCKER_CERT_PATH is set and not empty, as the SDK reads them.
    """
    verify, directory = env.get("DOCKER_TLS_VERIFY"), env.get("DOCKER_CERT_PATH")
    if not verify and not directory:
        return
    place = Path(directory) if directory else Path("~/.docker").expanduser()
    for name in (*OWN_FILES, *((AUTHORITY_FILE,) if verify else ())):
        os.close(os.open(place / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _parts(env: Mapping[str, str]) -> tuple[str, str, str]:
    """Return DOCKER_HOST in three parts: the scheme with its slashes, the credentials, and the rest."""
    told = _told(env) or DEFAULT_ADDRESS
    scheme, slashes, rest = told.partition("://") if "://" in told else ("", "", told)
    # Only the start of a unix address could hold credentials, because a path may hold any character.
    authority, slash, path = rest.partition("/") if scheme.endswith("unix") else (rest, "", "")
    credentials, _, place = authority.rpartition("@")
    return scheme + slashes, credentials, place + slash + path


def _told(env: Mapping[str, str]) -> str:
    return env.get("DOCKER_HOST", "").strip()
