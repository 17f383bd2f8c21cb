"""Credentials for calls, as Debian's coturn takes them."""

import asyncio
import socket
import subprocess

import pytest
from conftest import KINDS
from person import Person
from servers import Synapse, Tayberry, free_port

SECRET = "north"


class CallingTayberry(Tayberry):
    """A Tayberry that knows a TURN server."""

    turn_port: int

    def command(self) -> list[str]:
        config = self.folder / "tayberry.toml"
        config.write_text(TAYBERRY_CONFIG.format(name=self.name, port=self.port, turn_port=self.turn_port))
        return [super().command()[0], "serve", "--config", str(config)]


class CallingSynapse(Synapse):
    """The same of a Synapse."""

    turn_port: int

    def command(self) -> list[str]:
        (self.folder / "turn.yaml").write_text(SYNAPSE_CONFIG.format(turn_port=self.turn_port))
        return [*super().command(), "--config-path", "turn.yaml"]


@pytest.fixture
def turn_port(tmp_path):
    """Where a coturn listens that shares the secret."""
    port = free_port()
    options = ["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers", "--no-tls", "--no-dtls"]
    files = [f"--log-file={tmp_path}/log", "--simple-log", f"--pidfile={tmp_path}/pid", f"--userdb={tmp_path}/users"]
    auth = ["--realm=example.org", "--use-auth-secret", f"--static-auth-secret={SECRET}"]
    command = ["turnserver", "-n", "--no-cli", f"--listening-port={port}", *options, *files, *auth]
    with open(tmp_path / "output", "wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as coturn:
        yield port
        coturn.terminate()


@pytest.fixture(params=KINDS)
def calling(request, tmp_path, turn_port):
    """A running server that tells its users of that coturn."""
    kind = {"tayberry": CallingTayberry, "synapse": CallingSynapse}[request.param]
    folder = tmp_path / request.param
    folder.mkdir()
    server = kind(folder)
    server.turn_port = turn_port
    server.start()
    yield server
    server.stop()


async def test_coturn_takes_what_a_user_is_given(calling, turn_port):
    person = await Person.register(calling)
    given = await person.do("GET", "/voip/turnServer")
    assert given["uris"] == [f"turn:127.0.0.1:{turn_port}?transport=udp"] and given["ttl"] == 600
    await listens(turn_port)
    assert await relays(turn_port, given["username"], given["password"])
    assert not await relays(turn_port, given["username"], given["password"][::-1])
    # Nobody makes it good for longer.
    until, user_id = given["username"].split(":", 1)
    assert user_id == person.user_id
    assert not await relays(turn_port, f"{int(until) + 600}:{user_id}", given["password"])
    await person.close()


async def relays(port: int, username: str, password: str) -> bool:
    """Whether coturn's own client gets messages through."""
    options = ["-u", username, "-w", password, "-p", str(port), "-y", "-n", "2", "-m", "1", "-L", "127.0.0.1"]
    client = await asyncio.create_subprocess_exec("turnutils_uclient", *options, "127.0.0.1", stdout=subprocess.PIPE)
    told, _ = await client.communicate()
    return client.returncode == 0 and b"Total lost packets 0 " in told


async def listens(port: int) -> None:
    """Waits until something takes connections there."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.02)


TAYBERRY_CONFIG = """\
server_name = "{name}"
data_dir = "data"
registration.mode = "open"

[[listener]]
bind = "127.0.0.1:{port}"

[turn]
uris = ["turn:127.0.0.1:{turn_port}?transport=udp"]
shared_secret = "north"
ttl_s = 600
"""

SYNAPSE_CONFIG = """\
turn_uris: ["turn:127.0.0.1:{turn_port}?transport=udp"]
turn_shared_secret: north
turn_user_lifetime: 10m
"""
