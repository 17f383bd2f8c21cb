"""The two homeservers under test, each a process on loopback with a data folder of its own; those that meet others have
a certificate of an authority that all of them trust.

A server keeps its port and folder for life, so that it can stop, be killed and come back as the same server.
"""

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Long enough for a machine that does something else, too.
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


class Server:
    """One homeserver: start, stop, kill, and where to reach it."""

    kind: str

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.name = f"localhost:{self.port}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.prepare()

    def prepare(self) -> None:
        """Writes what the server needs before its first start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            assert self.process.poll() is None, f"{self.kind} ended at start:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"{self.kind} does not answer:\n{self.log_tail()}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Asks the server to end, and waits until it has."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server at once, as a crash does."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            finally:
                self.process.kill()
                self.process = None

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Authority:
    """Signs certificates for servers on loopback."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "ca.pem"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of the tests")])
        certificate = self.sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(certificate)

    def sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def certify(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and key for a server at 127.0.0.1, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate, private = folder / "cert.pem", folder / "key.pem"
        certificate.write_bytes(self.sign(x509.Name([]), key, names))
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        private.write_bytes(pem)
        return certificate, private


class Meeting:
    """A server that meets others: over TLS at the port in its name, while its clients come over plain HTTP."""

    def __init__(self, folder: Path, authority: Authority):
        self.authority = authority
        self.federation_port = free_port()
        self.certificate, self.key = authority.certify(folder)
        super().__init__(folder)


class Tayberry(Server):
    kind = "tayberry"

    def command(self) -> list[str]:
        binary = str(Path(os.environ["TAYBERRY_BINARY"]).resolve())
        return [binary, "localserve", "--port", str(self.port), "--data-dir", str(self.folder / "data")]


class MeetingTayberry(Meeting, Tayberry):
    def prepare(self) -> None:
        self.name = f"127.0.0.1:{self.federation_port}"
        (self.folder / "tayberry.toml").write_text(
            TAYBERRY_CONFIG.format(
                name=self.name,
                port=self.port,
                federation_port=self.federation_port,
                certificate=self.certificate,
                key=self.key,
                authority=self.authority.file,
            )
        )

    def command(self) -> list[str]:
        binary = str(Path(os.environ["TAYBERRY_BINARY"]).resolve())
        return [binary, "serve", "--config", str(self.folder / "tayberry.toml")]


class Synapse(Server):
    kind = "synapse"

    def prepare(self) -> None:
        generate = ["--generate-config", "--server-name", self.name, "--report-stats", "no"]
        subprocess.run(
            [*self.program(), "--config-path", "base.yaml", "--data-directory", str(self.folder), *generate],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        (self.folder / "local.yaml").write_text(SYNAPSE_CONFIG.format(port=self.port))

    def command(self) -> list[str]:
        return [*self.program(), "--config-path", "base.yaml", "--config-path", "local.yaml"]

    @staticmethod
    def program() -> list[str]:
        return [sys.executable, "-m", "synapse.app.homeserver"]


class MeetingSynapse(Meeting, Synapse):
    def prepare(self) -> None:
        self.name = f"127.0.0.1:{self.federation_port}"
        super().prepare()
        (self.folder / "meeting.yaml").write_text(
            SYNAPSE_MEETING_CONFIG.format(
                port=self.port,
                federation_port=self.federation_port,
                certificate=self.certificate,
                key=self.key,
                authority=self.authority.file,
            )
        )

    def command(self) -> list[str]:
        return [*super().command(), "--config-path", "meeting.yaml"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Open registration, limits that a test does not reach, and password hashing that takes no time.
SYNAPSE_CONFIG = """\
listeners:
  - port: {port}
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [client]}}]
trusted_key_servers: []
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence: {{enabled: true}}
room_list_publication_rules: [{{action: allow}}]
experimental_features: {{msc4222_enabled: true}}
rc_message: &unlimited {{per_second: 100000, burst_count: 100000}}
rc_registration: *unlimited
rc_login: {{address: *unlimited, account: *unlimited, failed_attempts: *unlimited}}
rc_admin_redaction: *unlimited
rc_joins: {{local: *unlimited, remote: *unlimited}}
rc_joins_per_room: *unlimited
rc_invites: {{per_room: *unlimited, per_user: *unlimited, per_issuer: *unlimited}}
rc_room_creation: *unlimited
rc_presence: {{per_user: *unlimited}}
"""

# What a Synapse needs to meet servers on loopback, and not to wait for long where one was away.
SYNAPSE_MEETING_CONFIG = """\
listeners:
  - port: {port}
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [client]}}]
  - port: {federation_port}
    type: http
    tls: true
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [federation, media]}}]
tls_certificate_path: "{certificate}"
tls_private_key_path: "{key}"
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
suppress_key_server_warning: true
allow_public_rooms_over_federation: true
federation: {{destination_min_retry_interval: 1s, destination_max_retry_interval: 1s, destination_retry_multiplier: 1}}
rc_federation: {{window_size: 1000, sleep_limit: 100000, reject_limit: 100000, concurrent: 100}}
"""

TAYBERRY_CONFIG = """\
server_name = "{name}"
data_dir = "data"
registration.mode = "open"
rate_limit.enabled = false
federation.allow_private_addresses = true
federation.send_presence = true
federation.trusted_ca_files = ["{authority}"]

[[listener]]
bind = "127.0.0.1:{port}"

[[listener]]
bind = "127.0.0.1:{federation_port}"
tls = {{ certificate = "{certificate}", key = "{key}" }}
"""

SERVERS = {server.kind: server for server in (Synapse, Tayberry)}
MEETING = {server.kind: server for server in (MeetingSynapse, MeetingTayberry)}
