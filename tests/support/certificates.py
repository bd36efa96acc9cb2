"""A private certificate authority, and certificates that it signs with the program openssl."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.missing import missing

# The command `ca` of openssl needs this; other commands cannot set the start of the validity.
FUTURE = """[ca]
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
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost
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

    def __init__(self, directory: Path) -> None:
        """Create the key and the certificate in `directory`, which must exist."""
        self._directory = directory
        self.path = directory / "ca.pem"
        subject = ["-subj", "/CN=authority of the tests", "-days", "2"]
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", *subject)

    def sign(
        self, name: str, *, host: str = "localhost", days: int = 2, new_key: Sequence[str] = NEW_KEY
    ) -> Certificate:
        """Return a certificate for `host` whose files are called `name`. With negative `days` it has expired.

        `new_key` are the arguments of openssl for its key.
        """
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        (self._directory / "san").write_text(f"subjectAltName=DNS:{host}\n")
        self._openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={host}")
        by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san"]
        self._openssl("x509", "-req", "-in", f"{name}.csr", *by, "-days", str(days), "-out", f"{name}.pem")
        return made

    def not_yet_valid(self, name: str) -> Certificate:
        """Return a certificate for `localhost` that is valid in the year 2090 only; its files are called `name`."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        (self._directory / "index.txt").touch()
        (self._directory / "ca.conf").write_text(FUTURE)
        self._openssl("req", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        valid = ["-startdate", "20900101000000Z", "-enddate", "20901231000000Z"]
        self._openssl("ca", "-batch", "-config", "ca.conf", *valid, "-in", f"{name}.csr", "-out", f"{name}.pem")
        return made

    def self_signed(self, name: str) -> Certificate:
        """Return a certificate for `localhost` that no authority has signed; its files are called `name`."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
        return made

    def _openssl(self, *arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
        except FileNotFoundError:
            missing("openssl", "not installed")
