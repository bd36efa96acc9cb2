"""What the documents of an operator are about, in one sandbox: a device, its resource API and a publisher.

The API is behind nginx with deploy/nginx-api.conf at https://api.example. It has the model `day/model.onnx`; `publish`
puts the release 1.5 there. The publisher works in the directory of the sandbox, where all the files have the names of
the documents.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.deploy.composed import compose_command
from tests.project.operations.programs import write_programs
from tests.project.operations.sandbox import Sandbox
from tests.support.certificates import Authority
from tests.support.engines import Engine
from tests.support.images import import_image
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.nginx_server import require_nginx

OPERATOR, PUBLISHER, PASSWORD = "operator@example.com", "anna@example.org", "correct horse"
SECRET = f"device-{'x' * 43}"
APPS = {"1.4": "registry.example/app:1.4", "1.5": "registry.example/app:1.5"}
PROGRAMS = ("curl", "docker", "ip", "jq", "nsenter", "openssl", "systemd-analyze", "systemd-creds", "unshare")
ENV = {
    "PASSWORD": PASSWORD,
    "SECRET": SECRET,
    # The authority of the tests is no public one.
    "RESOURCE_API_CA_BUNDLE": "/etc/azaion-loader/ca.pem",
}
# nginx limits the logins of an address, which are all of one here.
API = f"""
mkdir -p /etc/azaion-resource-api/tls /run/azaion-resource-api /var/log/nginx
cp api.pem /etc/azaion-resource-api/tls/fullchain.pem
cp api.key /etc/azaion-resource-api/tls/key.pem
sed 's/rate=1r/rate=100r/' deploy/nginx-api.conf > /etc/nginx-api.conf
azaion-resource-api init /srv/resource-api
echo "$PASSWORD" | azaion-resource-api user add /srv/resource-api {OPERATOR}
echo "$PASSWORD" | azaion-resource-api user add /srv/resource-api {PUBLISHER} --role publisher
azaion-resource-api user add /srv/resource-api --device device-7 > device-7.secret
azaion-resource-api user add /srv/resource-api --device device-8 > device-8.secret
azaion-resource-api key add /srv/resource-api fragment.key
setsid azaion-resource-api serve /srv/resource-api --bind unix:/run/azaion-resource-api/1.sock \\
    --log /var/log/azaion-resource-api.journal < /dev/null > api.out 2>&1 &
nginx -c /etc/nginx-api.conf
until curl -fsk https://api.example/health; do sleep 0.05; done
"""
RELEASES = """
azaion-loader key new -o fragment.key
azaion-loader sign new anna.key > publishers
azaion-loader sign new ben.key
azaion-loader images pack registry.example/app:1.4 --key fragment.key --sign anna.key --serial 1764235964 -o 1.4.enc
azaion-loader images pack registry.example/app:1.5 --key fragment.key --sign anna.key --serial 1766827964 \\
    --base 1.4.enc -o 1.5.enc
azaion-loader images thin 1.5.enc --base 1.4.enc -o 1.4-1.5.enc
cp 1.5.enc images.enc
"""
DEVICE = """
mkdir -p /etc/azaion-loader/tls /opt/azaion/models
cp ca.pem /etc/azaion-loader/ca.pem
cp ca.pem /etc/azaion-loader/tls/clients.pem
cp api.pem /etc/azaion-loader/tls/fullchain.pem
cp api.key /etc/azaion-loader/tls/key.pem
printf '%s\\n' RESOURCE_API_URL=https://api.example RESOURCE_API_CA_BUNDLE=/etc/azaion-loader/ca.pem \\
    DEVICE_NAME=device-7 > /etc/azaion-loader/loader.env
"""
IS_READY = "azaion-loader status --json | jq -e '.unlock.state == \"ready\" and .authenticated'"
MODEL = f"""
head -c 3000000 /dev/urandom > model.onnx
echo "$PASSWORD" | azaion-loader login --email {PUBLISHER}
azaion-loader upload model.onnx day
"""


class Field:
    """The running sites. Each method may be called at any time, and leaves the state that it names."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        """Make the releases, start the API, and start a device that has release 1.4, which is not unlocked yet."""
        require_nginx()
        command, places = compose_command(), {program: shutil.which(program) for program in PROGRAMS}
        for program, place in places.items():
            if place is None:
                missing(program, "not installed")
        docker = str(places["docker"])
        self._engine = engine
        self.sandbox = Sandbox(directory, engine.socket, ENV)
        compose = [docker, "compose"] if command[0] == "docker" else command
        write_programs(self.sandbox.programs, compose, docker)
        shutil.copytree(REPOSITORY / "deploy", self.sandbox.work / "deploy")
        authority = directory / "authority"
        authority.mkdir()
        shown = Authority(authority).sign("api", host="api.example")
        for path in (authority / "ca.pem", shown.certificate, shown.key):
            shutil.copy(path, self.sandbox.work)
        for version in APPS:
            self.image(version)
        for script in (RELEASES, API, DEVICE):
            self.sandbox.run(script)
        self.device("1.4")
        self.sandbox.run(MODEL)

    def image(self, version: str) -> None:
        """The engine has the image of this release under its name, as that of a publisher has."""
        import_image(self._engine, APPS[version], random_mib=1, seed=int(version[-1]))

    def device(self, version: str) -> None:
        """The device is as new: the archive of this release, an engine without images, and nobody is logged in."""
        self.sandbox.run("systemctl stop azaion-loader; rm -rf /opt/azaion/*; mkdir -p /opt/azaion/models")
        self.clear_engine()
        self.sandbox.run(f"cp {version}.enc /opt/azaion/images.enc; systemctl start azaion-loader")

    def unlocked(self, version: str) -> None:
        """The device has unlocked this release last, and is logged in."""
        if self.sandbox.try_run(f"cmp {version}.enc /opt/azaion/images.enc; {IS_READY}").returncode != 0:
            self.device(version)
            self.unlock()

    def unlock(self) -> None:
        """The archive on the device is unlocked."""
        self.sandbox.run(f"azaion-loader unlock --email {OPERATOR}", stdin=f"{PASSWORD}\n")

    def logged_in(self) -> None:
        """The operator is logged in."""
        self.sandbox.run(f"azaion-loader login --email {OPERATOR}", stdin=f"{PASSWORD}\n")

    def published(self) -> None:
        """The API has the release 1.5, also as the newest one."""
        publish = f"azaion-loader images publish 1.5.enc --api https://api.example --email {PUBLISHER} --version latest"
        self.sandbox.run(f'echo "$PASSWORD" | {publish}')

    def clear_engine(self) -> None:
        """The engine has none of the images of this field."""
        for image in self._engine.client.images.list():
            for tag in image.tags:
                if tag.startswith(("registry.example/", "azaion-loader.invalid/")):
                    self._engine.client.images.remove(tag, force=True)

    def close(self) -> None:
        """End all processes, and remove the images."""
        self.sandbox.__exit__()
        self.clear_engine()
