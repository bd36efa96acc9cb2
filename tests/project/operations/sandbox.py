"""A machine to run documented commands on: namespaces in which /etc, /opt and the network may be changed.

It has a network of its own with loopback only, where `api.example` is this machine, and processes of its own, which end
with it. /etc and /var are the machine's, changes to them are forgotten; /opt, /run, /srv and /media begin empty.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env
from tests.support.procfs import children

READY_SECONDS = 30.0
RUN_SECONDS = 120.0
# The documents name the last address as that of a neighbour.
ADDRESSES = ("192.168.7.2/32",)
HOSTS = "127.0.0.1 localhost api.example api.example.com"
_SETUP = """
set -eu
mkdir layers
mount -t tmpfs tmpfs layers
for place in etc var; do
    mkdir -p layers/$place/upper layers/$place/work
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=layers/$place/upper,workdir=layers/$place/work" /$place
done
for place in opt run srv media; do
    mount -t tmpfs -o mode=755 tmpfs /$place
done
mkdir -p /var/lib/docker
touch /run/docker.sock
mount --bind "$ENGINE" /run/docker.sock
echo "$HOSTS" > /etc/hosts
ip link set lo up
for address in $ADDRESSES; do ip address add "$address" dev lo; done
touch ready
# The first process reaps what the others have left, which sleep would not.
while :; do sleep 60 & wait $!; done
"""


class Sandbox:
    """The running machine. Commands run in the directory `work` of it, with the programs in `programs` before others.

    The end of the `with` block ends all of its processes. Calls `missing` if it cannot be made.
    """

    def __init__(self, directory: Path, engine_socket: Path, env: Mapping[str, str]) -> None:
        if os.geteuid() != 0:
            missing("namespaces", "only root may mount file systems")
        self.work, self.programs = directory / "work", directory / "programs"
        self.work.mkdir()
        self.programs.mkdir()
        self._env = clean_env(directory, **env)
        self._env["PATH"] = f"{self.programs}{os.pathsep}{self._env['PATH']}"
        setup = {"ENGINE": str(engine_socket), "HOSTS": HOSTS, "ADDRESSES": " ".join(ADDRESSES)}
        own = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["unshare", *own, "bash", "-c", f"cd {directory}{_SETUP}"]
        self._process = ManagedProcess("sandbox", command, directory, env=clean_env(directory, **setup))
        try:
            self._process.wait_until((directory / "ready").exists, READY_SECONDS, "the namespaces are made")
        except AssertionError as exc:
            self._process.kill_tree()
            missing("namespaces", str(exc).splitlines()[-1])

    def try_run(self, script: str, *, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script of bash, which ends at its first error; its standard error is in `stdout`, too."""
        (first,) = children(self._process.pid)
        enter = ["nsenter", "--target", str(first), "--mount", "--net", "--pid"]
        return subprocess.run(
            [*enter, "bash", "-euo", "pipefail", "-c", f"cd {self.work}\n{script}"],
            env={**self._env, **env},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def run(self, script: str, *, stdin: str = "", **env: str) -> str:
        """Run a script of bash, which must succeed, and return what it prints."""
        done = self.try_run(script, stdin=stdin, **env)
        assert done.returncode == 0, (script, done.returncode, done.stdout)
        return done.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # unshare ignores SIGTERM; its child ends with it.
        self._process.kill_tree()
