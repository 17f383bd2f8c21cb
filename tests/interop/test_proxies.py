"""The reverse proxies of README.md, Caddy and nginx as Debian has them, configured by what stands there: only ports and the
paths of certificates are others, and Caddy doesn't ask for a certificate."""

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from person import CLIENT, until_true
from servers import Authority, Tayberry, free_port

README = Path(__file__).parents[2] / "README.md"
NAME = "example.org"
NOBODY = 65534
UPLOAD_BYTES = 60_000_000
# nginx gives up a connection after 60 seconds, unless it is told otherwise.
POLL_S = 70 if os.environ.get("TAYBERRY_TESTS") == "whole" else 2


def snippet(first_line: str) -> str:
    """The indented text of README.md that begins with a line."""
    lines = README.read_text().split("\n")
    begin = lines.index("    " + first_line)
    length = next(n for n, line in enumerate(lines[begin:]) if not line.startswith("    "))
    return "\n".join(line[4:] for line in lines[begin : begin + length]) + "\n"


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with other words, each of which must be there."""
    for old, new in changes.items():
        assert old in text, f"README.md doesn't say {old!r}"
        text = text.replace(old, new)
    return text


class Proxy:
    """One reverse proxy, which is nobody's in particular, at two ports of its own."""

    def __init__(self, folder: Path, server_port: int, certificate: Path, key: Path):
        self.folder = folder
        self.server_port, self.port, self.federation_port = server_port, free_port(), free_port()
        self.certificate, self.key = certificate, key
        self.config = folder / "config"
        self.config.write_text(self.text())

    def text(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        env = {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, env=env, stdout=log, stderr=log, **user)
        deadline = time.monotonic() + 60
        while not all(listens(port) for port in (self.port, self.federation_port)):
            assert self.process.poll() is None, f"it ended at start:\n{self.log()}"
            assert time.monotonic() < deadline, f"it doesn't listen:\n{self.log()}"
            time.sleep(0.05)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


class Caddy(Proxy):
    def text(self) -> str:
        # `example.org` alone is at the port that is 443 elsewhere.
        options = f"{{\n\tadmin off\n\tskip_install_trust\n\thttps_port {self.port}\n\thttp_port {free_port()}\n}}\n"
        changes = {
            ":8448": f":{self.federation_port}",
            "127.0.0.1:8008": f"127.0.0.1:{self.server_port}",
            "{\n": f"{{\n    tls {self.certificate} {self.key}\n",
        }
        return options + replaced(snippet("example.org, example.org:8448 {"), changes)

    def command(self) -> list[str]:
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(self.config)]


class Nginx(Proxy):
    def text(self) -> str:
        changes = {
            "443 ssl": f"{self.port} ssl",
            "8448 ssl": f"{self.federation_port} ssl",
            "127.0.0.1:8008": f"127.0.0.1:{self.server_port}",
            "/etc/ssl/certs/example.org.pem": str(self.certificate),
            "/etc/ssl/private/example.org.key": str(self.key),
        }
        paths = [f"{use}_temp_path {self.folder}/{use};" for use in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        site = replaced(snippet("server {"), changes)
        http = "\n".join(["access_log off;", *paths, site])
        return f"daemon off;\npid {self.folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{http}\n}}\n"

    def command(self) -> list[str]:
        return ["/usr/sbin/nginx", "-e", "stderr", "-c", str(self.config)]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Household(Tayberry):
    """A server as README.md sets one up behind a proxy on the same machine."""

    def prepare(self) -> None:
        self.operate("init", "--server-name", NAME, "--dir", str(self.folder))
        config = self.folder / "tayberry.toml"
        changes = {
            "127.0.0.1:8008": f"127.0.0.1:{self.port}",
            "#proxies = ": "proxies = ",
            '#client_url = "https://matrix.example.org"': f'client_url = "https://{NAME}"',
        }
        config.write_text(replaced(config.read_text(), changes))

    def command(self) -> list[str]:
        return [os.environ["TAYBERRY_BINARY"], "serve", "--config", str(self.folder / "tayberry.toml")]

    def operate(self, *words: str) -> str:
        return subprocess.run([os.environ["TAYBERRY_BINARY"], *words], check=True, capture_output=True, text=True).stdout


class Loopback(AbstractResolver):
    """Every name leads to this machine."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        entry = {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [entry]

    async def close(self):
        pass


class Visitor:
    """Somebody with an address, who trusts the authority of the tests alone."""

    def __init__(self, authority: Authority, proxy: Proxy, address: str = "127.0.0.1"):
        tls = ssl.create_default_context(cafile=authority.file)
        connector = aiohttp.TCPConnector(resolver=Loopback(), ssl=tls, local_addr=(address, 0))
        self.session = aiohttp.ClientSession(f"https://{NAME}:{proxy.port}", connector=connector)

    async def __aenter__(self) -> "Visitor":
        return self

    async def __aexit__(self, *_) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, token: str | None = None, **options):
        """Status and JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, path, headers=headers | options.pop("headers", {}), **options) as answer:
            return answer.status, await answer.json()

    async def do(self, method: str, path: str, token: str | None = None, **options):
        status, body = await self.call(method, path, token, **options)
        assert status == 200, body
        return body


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def household(tmp_path_factory):
    server = Household(tmp_path_factory.mktemp("household"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[Caddy, Nginx], ids=["caddy", "nginx"])
def proxy(request, authority, household):
    # Folders of pytest are for its own user alone.
    folder = Path(tempfile.mkdtemp())
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(authority.sign(x509.Name([]), key, names))
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    proxy = request.param(folder, household.port, certificate, private)
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    proxy.start()
    yield proxy
    proxy.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def visitor(authority, proxy):
    async with Visitor(authority, proxy) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def password(household):
    """Anna's, which `user create` printed."""
    told = household.operate("user", "create", "anna", "--admin", "--config", str(household.folder / "tayberry.toml"))
    return told.split()[-1]


async def log_in(visitor: Visitor, password: str) -> str:
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "anna"}, "password": password}
    return (await visitor.do("POST", f"{CLIENT}/login", json=body))["access_token"]


async def test_a_client_finds_it_and_logs_in(visitor, password):
    found = await visitor.do("GET", "/.well-known/matrix/client")
    assert found["m.homeserver"]["base_url"] == f"https://{NAME}"
    token = await log_in(visitor, password)
    assert (await visitor.do("GET", f"{CLIENT}/account/whoami", token))["user_id"] == f"@anna:{NAME}"


async def test_a_long_poll_waits_and_wakes_up(visitor, password):
    token = await log_in(visitor, password)
    room = (await visitor.do("POST", f"{CLIENT}/createRoom", token, json={}))["room_id"]
    since = (await visitor.do("GET", f"{CLIENT}/sync", token))["next_batch"]

    begin = time.monotonic()
    query = {"since": since, "timeout": POLL_S * 1000}
    waited = await visitor.do("GET", f"{CLIENT}/sync", token, params=query)
    assert "rooms" not in waited or not waited["rooms"].get("join"), waited
    assert POLL_S - 0.5 < time.monotonic() - begin < POLL_S + 20

    query = {"since": waited["next_batch"], "timeout": 60_000}
    poll = asyncio.create_task(visitor.do("GET", f"{CLIENT}/sync", token, params=query))
    await asyncio.sleep(1)
    assert not poll.done()
    content = {"msgtype": "m.text", "body": "hello"}
    sent = await visitor.do("PUT", f"{CLIENT}/rooms/{room}/send/m.room.message/1", token, json=content)
    told = await asyncio.wait_for(poll, 10)
    assert sent["event_id"] in [event["event_id"] for event in told["rooms"]["join"][room]["timeline"]["events"]]


async def test_a_large_file_comes_and_goes(visitor, password):
    token = await log_in(visitor, password)
    content = os.urandom(1 << 20) * (UPLOAD_BYTES >> 20)
    headers = {"Content-Type": "application/octet-stream"}
    uri = (await visitor.do("POST", "/_matrix/media/v3/upload", token, data=content, headers=headers))["content_uri"]
    path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}"
    digest = hashlib.sha256()
    async with visitor.session.get(path, headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == 200
        async for piece in answer.content.iter_any():
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(content).digest()


async def test_limits_hold_for_each_client(authority, proxy, request):
    ask = ("GET", f"{CLIENT}/register/available?username=anna")
    # Another pair of addresses for each proxy: the server remembers them.
    first = 2 + 2 * request.node.callspec.indices["proxy"]
    one, other = f"127.0.0.{first}", f"127.0.0.{first + 1}"
    async with Visitor(authority, proxy, one) as busy, Visitor(authority, proxy, other) as quiet:

        async def is_limited() -> bool:
            return (await busy.call(*ask))[0] == 429

        await until_true(is_limited)
        assert (await quiet.call(*ask))[0] != 429, "another client's limit is reached, too"
        # It can't say that it is somebody else.
        told = [(await busy.call(*ask, headers={"X-Forwarded-For": other}))[0] for _ in range(5)]
        assert 429 in told, told
        assert (await quiet.call(*ask))[0] != 429


async def test_other_servers_get_its_keys(visitor, proxy):
    url = f"https://{NAME}:{proxy.federation_port}/_matrix/key/v2/server"
    async with visitor.session.get(url) as answer:
        assert answer.status == 200
        assert (await answer.json())["server_name"] == NAME
