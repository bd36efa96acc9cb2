"""After the steps: the servers stay, for whoever wants to try something."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from . import interrupts
from .commands import Command, python
from .flow import Flow
from .http_calls import get
from .screen import Screen
from .services import Service

POLL_SECONDS = 0.2


def say_what_to_try(screen: Screen, flow: Flow, archive: Path | None, logs: Sequence[Path]) -> None:
    """The page of what the demo has done, and commands with the real addresses, to paste into another terminal."""
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
