"""`python -m tools.demo` runs all steps and keeps serving; with ONCE=1 in the environment it ends after the steps."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from . import interrupts
from .commands import REPOSITORY, CannotInstall, StepFailed, ensure_program
from .engine import Engine, NoEngine, find_engine
from .flow import Flow, say_what_to_try, serve_until_interrupted
from .http_calls import Caller
from .screen import Screen
from .servers import start_loader, start_resource_api
from .services import Service, adopt_orphans, log_tails, workspace
from .shipping import VERSION, Goods, make_goods, make_model

EMAIL = "operator@example.com"
PASSWORD = "correct horse"  # noqa: S105  # opens nothing but the demo


def main() -> int:
    """Run the demo and return the exit code: 0 if everything worked."""
    interrupts.install()
    adopt_orphans()
    screen = Screen()
    screen.title("Azaion Loader: the whole flow on this machine")
    with ExitStack() as cleanup:
        try:
            with interrupts.shielded():
                directory = cleanup.enter_context(workspace())
            screen.say(f"Commands are run in {REPOSITORY}. All files lie below {directory} and go at the end.")
            code = _reported(screen, cleanup, directory)
        except interrupts.Interrupted as exc:
            screen.line(f"\nInterrupted by {exc}; cleaning up.")
            code = 128 + exc.number
        finally:
            interrupts.ignore()
    screen.line("\nEnded: no process and no file of the demo is left.")
    return code


def _reported(screen: Screen, cleanup: ExitStack, directory: Path) -> int:
    """Run the demo; if a step fails, print its error and the ends of the logs before they are removed."""
    try:
        return _demo(screen, cleanup, directory)
    except (StepFailed, CannotInstall) as exc:
        screen.bad(f"failed: {exc}")
        for log, lines in log_tails(directory):
            screen.line(f"\nThe end of {log}:")
            screen.output("\n".join(lines))
        return 1


def _demo(screen: Screen, cleanup: ExitStack, directory: Path) -> int:
    ensure_program(screen, directory, "curl", "curl")
    engine = _engine_if_any(screen, cleanup, directory)
    model = make_model(screen, directory)
    goods = make_goods(screen, cleanup, engine, directory) if engine is not None else None
    services, flow = _start_servers(screen, cleanup, directory, engine, goods)
    flow.log_in()
    flow.upload(model)
    flow.load(model)
    if engine is not None and goods is not None:
        flow.unlock()
        flow.list_images(engine, goods.reference)
    else:
        screen.step("Unlock: left out, because there is no Docker engine")
    if not os.environ.get("ONCE", "").strip("0"):
        say_what_to_try(screen, flow, goods.archive if goods else None, [service.log for service in services])
        serve_until_interrupted(screen, services)
    return 0 if engine is not None else 1


def _engine_if_any(screen: Screen, cleanup: ExitStack, directory: Path) -> Engine | None:
    screen.step("A Docker engine")
    try:
        return find_engine(screen, cleanup, directory)
    except NoEngine as exc:
        screen.bad(f"no Docker engine: {exc}")
        screen.say("The unlock needs one; all else is shown without it.")
        return None


def _start_servers(
    screen: Screen, cleanup: ExitStack, directory: Path, engine: Engine | None, goods: Goods | None
) -> tuple[list[Service], Flow]:
    screen.step("The resource API: it has the key fragment, which no device ever stores")
    api = start_resource_api(screen, cleanup, directory, (EMAIL, PASSWORD), goods.fragment if goods else None)
    screen.step("The loader, as on a device")
    loader = start_loader(
        screen,
        cleanup,
        directory,
        RESOURCE_API_URL=api.url,
        IMAGES_PATH=str(directory / "device" / "images.enc"),
        MODEL_CACHE_DIR=str(directory / "device" / "models"),
        API_VERSION=VERSION,
        **({"DOCKER_HOST": engine.host} if engine is not None else {}),
    )
    flow = Flow(Caller(screen, directory), loader.url, EMAIL, PASSWORD)
    return [api.service, loader.service], flow


if __name__ == "__main__":
    sys.exit(main())
