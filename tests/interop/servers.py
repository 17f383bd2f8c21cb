"""The two homeservers under test, each a process on loopback with a data folder of its own.

A server keeps its port and folder for life, so that it can stop, be killed and come back as the same server.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

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


class Tayberry(Server):
    kind = "tayberry"

    def command(self) -> list[str]:
        binary = str(Path(os.environ["TAYBERRY_BINARY"]).resolve())
        return [binary, "localserve", "--port", str(self.port), "--data-dir", str(self.folder / "data")]


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

SERVERS = {server.kind: server for server in (Synapse, Tayberry)}
