"""The steps on the device, from the login to the images in the engine, and what a user can try afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import interrupts
from .commands import Command, StepFailed, python, run
from .engine import Engine
from .http_calls import REPORT_DOWN, REPORT_UP, Caller, curl, get, json_arguments, post_json
from .screen import Screen
from .services import Service

FOLDER = "models"
UNLOCK_SECONDS = 120


@dataclass(frozen=True)
class Flow:
    """A loader at `url`, used as the operator and the services of the device use it."""

    caller: Caller
    url: str
    email: str
    password: str

    def log_in(self) -> None:
        """Log the operator in."""
        self.caller.screen.step("Log in")
        self.caller.call(self.login_command(self.password), "200 and status ok", status="ok")

    def upload(self, model: Path) -> None:
        """Upload a model; the loader encrypts and splits it."""
        self.caller.screen.step("Upload the model: it leaves the loader encrypted, in a small and a big part")
        self.caller.call(self.upload_command(model), "200 and status ok", status="ok")

    def load(self, model: Path) -> None:
        """Load the model and compare it with the uploaded file."""
        screen = self.caller.screen
        screen.step("Load it back, and compare")
        loaded = model.with_name(f"{model.name}.loaded")
        self.caller.call(self.load_command(model.name, loaded), "200 and the model")
        compare = Command(("sha256sum", str(model), str(loaded)))
        screen.command(str(compare))
        sums = run(compare, self.caller.directory)
        screen.output(sums)
        if len({line.split()[0] for line in sums.splitlines()}) != 1:
            raise StepFailed("expected the model to come back as it went up, but the sums differ")
        screen.good("the same bytes")

    def unlock(self) -> None:
        """Unlock the archive and wait until its images are in the engine."""
        screen = self.caller.screen
        screen.step("Unlock: fetch the key fragment, decrypt images.enc, load the images into the engine")
        self.caller.call(self.unlock_command(), "200 and a state")
        answer = self.caller.poll(get(f"{self.url}/unlock/status"), "state", ("ready", "error"), UNLOCK_SECONDS)
        self.caller.require(answer, "the state ready", state="ready")

    def list_images(self, engine: Engine, reference: str) -> None:
        """Check that the engine has the image again."""
        screen = self.caller.screen
        screen.step("The image is in the engine")
        where = engine.curl_arguments("/images/json")
        if where is not None:
            only_ours = ("-G", "--data-urlencode", "filters=" + json.dumps({"reference": [reference]}))
            self.caller.call(curl(*where, *only_ours), "200 and a list of images")
        if not engine.has_image(reference):
            raise StepFailed(f"expected {reference} in the engine")
        screen.good(reference)

    def login_command(self, password: str) -> Command:
        """Return the command to log in."""
        return post_json(f"{self.url}/login", {"email": self.email, "password": password})

    def upload_command(self, model: Path) -> Command:
        """Return the command to upload the file `model` under its own name."""
        form = ("-F", f"folder={FOLDER}", "-F", f"file=@{model}")
        return curl(f"{self.url}/upload/{model.name}", *form, report=REPORT_UP)

    def load_command(self, name: str, target: Path | None = None) -> Command:
        """Return the command to load the model `name`, into a file or to the terminal."""
        body = json_arguments({"filename": name, "folder": FOLDER})
        output = () if target is None else ("-o", str(target))
        return curl(f"{self.url}/load/{name}", *body, *output, report=REPORT_DOWN)

    def unlock_command(self) -> Command:
        """Return the command to unlock."""
        return post_json(f"{self.url}/unlock", {"email": self.email, "password": self.password})


POLL_SECONDS = 0.2


def say_what_to_try(screen: Screen, flow: Flow, archive: Path | None, logs: Sequence[Path]) -> None:
    """Print the address of the page, and commands with the real addresses to paste into another terminal."""
    readme = "README.md"
    suggestions = [
        ("Is it alive, and is somebody logged in?", get(f"{flow.url}/status")),
        ("A login that the resource API refuses", flow.login_command("wrong-password")),
        ("A file of your own goes up", flow.upload_command(Path(readme))),
        ("... and comes back", flow.load_command(readme)),
    ]
    if archive is not None:
        suggestions += [
            ("What the encrypted archive says of itself", python("-m", "loader", "images", "show", str(archive))),
            ("Unlock again: nothing is left to do", flow.unlock_command()),
        ]
    suggestions.append(("What happens inside", Command(("tail", "-f", *map(str, logs)))))
    screen.line(f"\nThe device's page, for a browser: {flow.url}/")
    screen.line("\nThings to try in another terminal, in the repository's directory:\n")
    for title, command in suggestions:
        screen.line(f"  {title}")
        screen.command(str(command))


def serve_until_interrupted(screen: Screen, services: Sequence[Service]) -> None:
    """Return on Ctrl-C; raises StepFailed if a server ends by itself."""
    screen.line("\nThe demo keeps serving. Ctrl-C ends it and removes everything.")
    try:
        while True:
            for service in services:
                service.require_running()
            time.sleep(POLL_SECONDS)
    except interrupts.Interrupted as exc:
        screen.line(f"\n{exc}: cleaning up.")
