"""What must be so before the commands of a section of docs/operations.md run, and what shows that they did their work.

A section without a stage is run as it is, and its commands must succeed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from loader.version import VERSION
from tests.project.operations.field import OPERATOR, PASSWORD, Field


def _nothing(_: Field) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class Stage:
    """`prepare` runs first, `checked` after each block. `output` are regular expressions that the output has.

    `typed` is what an operator types, `codes` the exit codes of which the last command has one.
    """

    output: tuple[str, ...] = ()
    prepare: Callable[[Field], None] = _nothing
    typed: str = ""
    codes: tuple[int, ...] = (0,)
    checked: str = ""


def _script(script: str) -> Callable[[Field], None]:
    def prepare(field: Field) -> None:
        field.sandbox.run(script)

    return prepare


def _with_failed_unlock(field: Field) -> None:
    field.device("1.4")
    field.sandbox.try_run(f"azaion-loader unlock --email {OPERATOR}", stdin="a wrong password\n")


def _with_old_logs(field: Field) -> None:
    field.unlocked("1.4")
    log, folder = "/var/log/azaion-loader.journal", "/var/log/azaion"
    field.sandbox.run(f"mkdir -p {folder}; cp {log} {folder}/loader.log.1; gzip < {log} > {folder}/loader.log.2.gz")


def _with_warning(field: Field) -> None:
    # The loader warns of a mark of releases that is damaged.
    field.unlocked("1.4")
    field.sandbox.run("systemctl stop azaion-loader; echo damaged > /opt/azaion/models/release-mark.json")
    field.sandbox.run("systemctl start azaion-loader; azaion-loader unlock --plan || :")


def _with_way_back(field: Field) -> None:
    field.device("1.4")
    field.unlock()
    field.sandbox.run("azaion-loader images install 1.5.enc")
    field.unlock()


def _with_older_archive(field: Field) -> None:
    _with_way_back(field)
    field.sandbox.run("cp 1.4.enc /opt/azaion/images.enc")


def _with_old_tag(field: Field) -> None:
    field.device("1.4")
    field.unlock()
    field.image("1.5")


def _with_image(field: Field) -> None:
    field.device("1.4")
    field.image("1.5")


def _published(field: Field) -> None:
    field.device("1.4")
    field.published()
    field.sandbox.run(
        "mkdir -p /media/stick/images.blobs; cd /media/stick/images.blobs\n"
        "curl -fs http://192.168.7.2:8000 > /dev/null 2>&1 || {\n"
        "    setsid python3 -m http.server --bind 192.168.7.2 8000 < /dev/null > /dev/null 2>&1 &\n"
        "    until curl -fs http://192.168.7.2:8000 > /dev/null; do sleep 0.05; done\n}"
    )


def _former(field: Field) -> None:
    field.image("1.4")
    field.sandbox.run(
        "echo the former fragment > former.key; head -c 16 /dev/urandom > former.iv\n"
        "docker save registry.example/app:1.4 | openssl enc -aes-256-cbc -K $(sha256sum former.key | cut -c 1-64) "
        "-iv $(od -A n -v -t x1 former.iv | tr -d ' \\n') | cat former.iv - > former.enc"
    )


def _with_model(field: Field) -> None:
    field.logged_in()
    field.sandbox.run("rm -f loaded.onnx; azaion-loader load day/model.onnx -o loaded.onnx; mkdir -p /media/disk")


def _with_package(field: Field) -> None:
    """A package without content takes the place of the new version, because there is no network for its packages."""
    field.unlocked("1.4")
    field.sandbox.run(f"rm -rf /srv/azaion-loader; mkdir -p /srv/azaion-loader; : > requirements.lock; {_ENV}")
    field.sandbox.run(
        f"info=azaion_loader-{VERSION}.dist-info; mkdir -p $info; cd $info\n"
        f"printf 'Metadata-Version: 2.1\\nName: azaion-loader\\nVersion: {VERSION}\\n' > METADATA\n"
        "printf 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' > WHEEL\n"
        "printf '%s,,\\n' $info/METADATA $info/WHEEL $info/RECORD > RECORD; cd ..\n"
        f"python3 -m zipfile -c azaion_loader-{VERSION}-py3-none-any.whl $info"
    )


_PASSWORD = f"{PASSWORD}\n"
_ENV = "printf '%s\\n' DOCKER_GID=1 RESOURCE_API_URL=https://api.example API_VERSION=1.4 > deploy/.env"
_VALID = "nginx -t -q -c /etc/nginx/nginx.conf"
_UNIT = "mkdir -p /srv/azaion-loader/.venv/bin; ln -sf $(command -v azaion-loader) /srv/azaion-loader/.venv/bin"
STAGES = {
    "Who did what": Stage((r"unlock +ok +operator@example\.com",), lambda field: field.unlocked("1.4")),
    "As a container": Stage(
        ("images are ready and proven; logged in",), lambda field: field.device("1.4"), typed=_PASSWORD
    ),
    "As a service: systemd": Stage(
        prepare=_script(f"{_UNIT}; useradd --system --user-group azaion-loader 2>/dev/null || :")
    ),
    "Behind nginx": Stage(prepare=_script("groupadd --force azaion-loader"), checked=_VALID),
    "After power comes back": Stage(
        ("^device-7\ndevice-x{43}$",),
        checked="systemd-creds decrypt --name=account /etc/azaion-loader/account.cred -",
    ),
    "Services in containers": Stage(
        prepare=_script(_ENV),
    ),
    "Started after the unlock": Stage(prepare=_script(_UNIT)),
    "Updating the loader": Stage(
        (f"Successfully installed azaion-loader-{re.escape(VERSION)}", "unlocked|ready"), _with_package
    ),
    "Before an unlock": Stage(
        (r"release 1\.4, made", "missing", "fits"), lambda field: field.device("1.4"), codes=(2,)
    ),
    "What stays in the engine": Stage((r"keeps registry.example/app:1.4",), _with_old_tag),
    "Back to the previous release": Stage((r"release 1\.4 .* has taken the place of release 1\.5",), _with_way_back),
    "Only what changed": Stage((r"app:1\.5",), _with_image),
    "Releases at the resource API": Stage((r"1\.5",)),
    "Over the air": Stage((r"release latest: fetched",), _published, typed=_PASSWORD),
    "Who may publish": Stage(prepare=_with_image),
    "An archive of the former loader": Stage(prepare=_former, checked="azaion-loader images show images.enc"),
    # Questions
    "Who unlocked this device last, and when?": Stage(
        (r"last unlock: \S+, ok, operator@example\.com, from 127\.0\.0\.1, release 1\.4",),
        lambda field: field.unlocked("1.4"),
    ),
    "Who did something here in the last week?": Stage((r"^when +event", "start")),
    "What stands in the old logs?": Stage((r"unlock +ok",), _with_old_logs),
    "Why did the unlock fail, and what do I do?": Stage(
        (r"unlock: error: .*\(LOGIN_REJECTED\)\nWhat to do: ",), _with_failed_unlock
    ),
    "What else did the loader warn of?": Stage((r"\tWARNING\t.*release-mark\.json",), _with_warning),
    "Which release is on this device, and is it proven?": Stage(
        (r'"proven": true', r"release 1\.4", "nothing to do"), lambda field: field.unlocked("1.4")
    ),
    "Which images exactly are in the archive, and who signed it?": Stage(
        (r"app:1\.4", r"[sS]igned"),
    ),
    "What would an unlock do, and how much room is missing?": Stage(
        (r"fits", "IFree", "Avail"), lambda field: field.device("1.4"), codes=(2,)
    ),
    "How do I make room?": Stage((r"1 name to remove", r"parts? removed"), _with_old_tag),
    "Can services load models now? If not, what is missing?": Stage(
        (r"NOT_LOGGED_IN", "What to do"), _script("azaion-loader lock"), codes=(5,)
    ),
    "What does a service get while the loader is locked?": Stage(
        (r"HTTP/1\.1 401", "NOT_LOGGED_IN"), _script("azaion-loader lock")
    ),
    "What is going on at this moment?": Stage((r"^login: ", r'"state": ?"idle"'), lambda field: field.device("1.4")),
    "How do I stop an unlock?": Stage(("no unlock runs",)),
    "How do I stop a fetch?": Stage(("no fetch runs",)),
    "Which version and which settings does the loader run with?": Stage((r"^\d+\.\d+", "https://api.example")),
    "Is the clock right?": Stage((r"UTC", r"[Dd]ate: .* GMT")),
    "Does the device resolve the name of the API?": Stage((r"127\.0\.0\.1 +STREAM",)),
    "Does the device reach the API, and how long does each step take?": Stage((r"^200 127\.0\.0\.1: DNS 0\.",)),
    "Is it a portal or a proxy that responds, and not the API?": Stage((r'\{"status": ?"ok"\}', "no proxy is set")),
    "Which certificate does the API show, and when does it end?": Stage(
        (r"issuer=CN = authority of the tests", "notAfter=", "DNS:api.example")
    ),
    "Does the Docker engine respond, and what runs?": Stage((r"^OK",)),
    "Why is a load slow?": Stage((r"real", r"load +ok"), lambda field: field.logged_in()),
    "Which models are there, and which are cached here?": Stage((r"day/model\.onnx .* cached", "whole"), _with_model),
    "Has the disk damaged the cache?": Stage((r"1 part read, .* 0 damaged",), _with_model),
    "How do I go back to the previous release?": Stage((r"release 1\.4 .* has taken the place",), _with_way_back),
    "How do I permit an older archive on purpose?": Stage(
        (r"permits release 1\.4", "images are ready"), _with_older_archive, typed=_PASSWORD
    ),
    "How do I move the cache to another disk?": Stage(
        (r"1 part, 3 MB",), _with_model, checked="azaion-loader cache list"
    ),
    "What did the API see of a login that failed?": Stage(
        (r"failures: \d", "operator@example.com"), _with_failed_unlock
    ),
    "Which lines of both logs belong to one unlock?": Stage(
        (r'loader\.audit".*"unlock"', r"resource_api\.audit"), lambda field: field.unlocked("1.4")
    ),
    "Which devices fetched the key fragment of release 1.4?": Stage(
        (r"\tdevice-7\toperator@example\.com",), lambda field: field.unlocked("1.4")
    ),
    "Which devices have not been seen for a week?": Stage(
        (r"\Adevice-8\n\Z",), _script("azaion-loader login --email device-7 < device-7.secret")
    ),
    "Who may publish, and who has published?": Stage(
        (r"^anna@example\.org +publisher", r"anna@example\.org\tday/model\.onnx\.small")
    ),
    "A device is lost: how do I end its access?": Stage((r"device-7 .*disabled",)),
    "How do I give a device a new secret?": Stage(("logged in",)),
    "How do I replace the key fragment?": Stage((r"^[0-9a-f]{16}",), _script("cp 1.5.enc images.enc; rm -f new.key")),
    "How do I replace the key of a publisher?": Stage(
        ("anna", "clara"),
        _script("cp 1.5.enc images.enc; azaion-loader images sign images.enc --key anna.key; rm -f clara.key"),
    ),
    "How do I back up the API, restore it, or move it to another host?": Stage(
        (r"operator@example\.com +reader",), _script("mkdir -p /media/disk")
    ),
}
