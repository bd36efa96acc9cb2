"""A private certificate authority, and certificates that it signs with the program openssl."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.missing import missing

# What Python 3.13 and later demand of an authority and of a server; the name of the host is added.
AUTHORITY = ("basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash")
SERVER = ("basicConstraints=critical,CA:false", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
REQUEST = """[req]
distinguished_name = name
[name]
[authority]
"""
# The command `ca` of openssl needs this; other commands cannot set the start of the validity.
SIGNING = """[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and its key."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context for a server that presents this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """A certificate authority. Clients trust it by its own certificate, the file `path`."""

    def __init__(self, directory: Path, extensions: Sequence[str] = AUTHORITY) -> None:
        """Create the key and the certificate, which has these `extensions`, in `directory`, which must exist."""
        self._directory = directory
        self.path = directory / "ca.pem"
        (directory / "request.conf").write_text(REQUEST + "\n".join(extensions))
        form = ["-config", "request.conf", "-extensions", "authority", "-subj", "/CN=authority of the tests"]
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", *form, "-days", "2")

    def sign(
        self,
        name: str,
        *,
        host: str = "localhost",
        further_hosts: Sequence[str] = (),
        new_key: Sequence[str] = NEW_KEY,
        extensions: Sequence[str] = SERVER,
    ) -> Certificate:
        """Return a certificate for `host` and `further_hosts` whose files are called `name`, with these `extensions`.

        `new_key` are the arguments of openssl for its key.
        """
        made = self._requested(name, [host, *further_hosts], new_key, extensions)
        by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
        self._openssl("x509", "-req", "-in", f"{name}.csr", *by, "-days", "2", "-out", f"{name}.pem")
        return made

    def expired(self, name: str) -> Certificate:
        """Return a certificate for `localhost` that was valid in the year 2020 only; its files are called `name`."""
        return self._signed_for(2020, name)

    def not_yet_valid(self, name: str) -> Certificate:
        """Return a certificate for `localhost` that is valid in the year 2090 only; its files are called `name`."""
        return self._signed_for(2090, name)

    def self_signed(self, name: str) -> Certificate:
        """Return a certificate for `localhost` that no authority has signed; its files are called `name`."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
        return made

    def _signed_for(self, year: int, name: str) -> Certificate:
        made = self._requested(name, ["localhost"], NEW_KEY, SERVER)
        (self._directory / "index.txt").touch()
        (self._directory / "ca.conf").write_text(SIGNING)
        valid = ["-startdate", f"{year}0101000000Z", "-enddate", f"{year}1231000000Z", "-extfile", f"{name}.ext"]
        self._openssl("ca", "-batch", "-config", "ca.conf", *valid, "-in", f"{name}.csr", "-out", f"{name}.pem")
        return made

    def _requested(
        self, name: str, hosts: Sequence[str], new_key: Sequence[str], extensions: Sequence[str]
    ) -> Certificate:
        """Write the key, the request and the extensions of a certificate that is to be signed."""
        lines = ("subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts), *extensions)
        (self._directory / f"{name}.ext").write_text("".join(f"{line}\n" for line in lines))
        self._openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={hosts[0]}")
        return Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
        except FileNotFoundError:
            missing("openssl", "not installed")
