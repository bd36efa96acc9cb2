"""The programs of the sandbox: the real commands, and stand-ins for systemd and compose, which cannot run there."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.loader_server import REPOSITORY

# The service is a process of the sandbox. Its log is what the journal would have.
_STOPPED = "while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
SYSTEMCTL = f"""#!/bin/bash
set -euo pipefail
stop() {{ [ ! -e /run/loader.pid ] || {{ pid=$(cat /run/loader.pid); kill "$pid" || :; {_STOPPED}; }}; }}
start() {{
    set -a
    . /etc/azaion-loader/loader.env
    setsid azaion-loader serve --pid /run/loader.pid < /dev/null > /dev/null 2>> /var/log/azaion-loader.journal &
    until curl -fs http://127.0.0.1:8080/health > /dev/null; do sleep 0.05; done
}}
case "$*" in
    daemon-reload) ;;
    "enable --now azaion-loader") systemd-analyze verify --man=no /etc/systemd/system/azaion-loader.service ;;
    "enable azaion-services.service") ;;
    "enable --now azaion-services.path")
        systemd-analyze verify --man=no /etc/systemd/system/azaion-services.{{path,service}} ;;
    "stop azaion-loader") stop ;;
    "start azaion-loader") start ;;
    "restart azaion-loader") stop; start ;;
    *) echo "the stand-in for systemctl does not know: $*" >&2; exit 1 ;;
esac
"""
JOURNALCTL = """#!/bin/bash
set -euo pipefail
[ "${*:1:2}" = "--output=cat --unit" ] && [ $# = 3 ] || { echo "the stand-in knows no such journal: $*" >&2; exit 1; }
exec cat "/var/log/$3.journal"
"""
# Real compose reads the files; what it would run in the container of the loader runs here.
DOCKER = """#!/bin/bash
set -euo pipefail
[ "${1-}" = compose ] || exec REAL_DOCKER "$@"
shift
files=()
while [ "$1" = --file ]; do files+=("$1" "$2"); shift 2; done
COMPOSE "${files[@]}" config --quiet
case "$*" in
    "up --detach" | "up --detach loader") ;;
    "exec loader "*) exec "${@:3}" ;;
    "exec -T loader "*) exec "${@:4}" ;;
    "logs --no-log-prefix loader") exec cat /var/log/azaion-loader.journal ;;
    *) echo "the stand-in for compose does not know: $*" >&2; exit 1 ;;
esac
"""


def write_programs(directory: Path, compose: list[str], docker: str) -> None:
    """Write the programs into `directory`. `compose` is the command of compose, `docker` the path of the real one."""
    texts = {
        "azaion-loader": _module("loader"),
        "azaion-resource-api": _module("resource_api"),
        "systemctl": SYSTEMCTL,
        "journalctl": JOURNALCTL,
        "docker": DOCKER.replace("REAL_DOCKER", docker).replace("COMPOSE", " ".join(compose)),
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def _module(name: str) -> str:
    return f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m {name} "$@"\n'
