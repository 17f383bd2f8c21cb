"""Signing in through a provider of OpenID Connect that nobody here wrote: npm's oidc-provider."""

import asyncio
import base64
import hashlib
import os
import secrets
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from forms import Browser
from js_device import JS
from person import CLIENT, request
from servers import Tayberry, free_port

APP = "https://app.example.org/#/login"


class FederatedTayberry(Tayberry):
    """A Tayberry that lets people of a provider in."""

    provider_port: int

    def command(self) -> list[str]:
        config = self.folder / "tayberry.toml"
        config.write_text(TAYBERRY_CONFIG.format(name=self.name, port=self.port, provider_port=self.provider_port))
        binary = str(Path(os.environ["TAYBERRY_BINARY"]).resolve())
        return [binary, "serve", "--config", str(config)]


@pytest.fixture
async def federated(tmp_path):
    """A running server, and its provider."""
    server = FederatedTayberry(tmp_path)
    server.provider_port = free_port()
    callback = f"{server.url}/_tayberry/sso/callback/example"
    process = await asyncio.create_subprocess_exec(
        "node", str(JS / "provider.mjs"), str(server.provider_port), callback, stdout=asyncio.subprocess.PIPE
    )
    while (line := await process.stdout.readline()) != b"ready\n":
        assert line, "the provider ended"
    server.start()
    yield server
    server.stop()
    process.kill()
    await process.wait()


class Visitor(Browser):
    """Somebody whom the provider knows."""

    def __init__(self):
        super().__init__("https://app.example.org/")

    async def sign_in(self, name: str) -> None:
        """Signs in with the provider, and agrees to what it asks."""
        await self.press(login=name, password="any")
        while 'value="consent"' in self.page:
            await self.press()


async def log_in(server, browser: Visitor, name: str) -> dict:
    flows = (await request(server, "GET", "/login")).body["flows"]
    assert {"type": "m.login.sso", "oauth_aware_preferred": True} in flows
    path = f"{CLIENT}/login/sso/redirect/example?redirectUrl={quote(APP, safe='')}"
    assert await browser.go("GET", server.url + path) is None
    if "/interaction/" in browser.url:
        await browser.sign_in(name)
    assert f"@{name}:" in browser.page and "app.example.org" in browser.page, browser.page
    url = urlsplit(await browser.press())
    [token] = parse_qs(url.query)["loginToken"]
    assert url.fragment == "/login"
    answer = await request(server, "POST", "/login", {"type": "m.login.token", "token": token})
    assert answer.status == 200, answer
    return answer.body


async def test_people_of_a_provider_sign_in_and_prove_it_again(federated):
    browser = Visitor()
    alice = await log_in(federated, browser, "alice")
    assert alice["user_id"] == f"@alice:{federated.name}"
    profile = await request(federated, "GET", f"/profile/{alice['user_id']}/displayname")
    assert profile.body["displayname"] == "alice of the provider"
    # The provider remembers the browser, and the server the person, also when it was started again.
    federated.stop()
    federated.start()
    again = await log_in(federated, browser, "alice")
    assert again["user_id"] == alice["user_id"] and again["device_id"] != alice["device_id"]

    token, devices = alice["access_token"], {"devices": [again["device_id"]]}
    challenge = await request(federated, "POST", "/delete_devices", devices, token)
    assert challenge.status == 401 and challenge.body["flows"] == [{"stages": ["m.login.sso"]}]
    session = challenge.body["session"]
    await browser.go("GET", f"{federated.url}{CLIENT}/auth/m.login.sso/fallback/web?session={session}")
    # It is to be proved, not remembered.
    assert "/interaction/" in browser.url, browser.page
    await browser.sign_in("alice")
    assert "sign devices out" in browser.page, browser.page
    await browser.press()
    assert "onAuthDone" in browser.page
    proved = await request(federated, "POST", "/delete_devices", devices | {"auth": {"session": session}}, token)
    assert proved.status == 200, proved
    assert (await request(federated, "GET", "/account/whoami", token=again["access_token"])).status == 401
    await browser.session.close()


async def test_two_people_are_two(federated):
    for name in ("alice", "bob"):
        browser = Visitor()
        assert (await log_in(federated, browser, name))["user_id"] == f"@{name}:{federated.name}"
        await browser.session.close()


async def test_people_of_a_provider_let_programs_in(federated):
    metadata = (await request(federated, "GET", "/_matrix/client/v1/auth_metadata")).body
    told = {
        "client_name": "Sunflower",
        "client_uri": "https://app.example.org/",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }
    browser = Visitor()
    async with browser.session.post(metadata["registration_endpoint"], json=told) as answer:
        assert answer.status == 201, await answer.text()
        client = (await answer.json())["client_id"]
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": CALLBACK,
        "scope": "urn:matrix:client:api:* urn:matrix:client:device:SUNFLOWER",
        "state": "north",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    await browser.go("GET", f"{metadata['authorization_endpoint']}?{urlencode(asked)}")
    await browser.follow("Continue with Example")
    assert "/interaction/" in browser.url, browser.page
    assert await browser.sign_in("carol") is None
    assert "Sunflower" in browser.page and f"@carol:{federated.name}" in browser.page, browser.page
    url = urlsplit(await browser.press(decision="allow"))
    answer = {name: value for name, [value] in parse_qs(url.query).items()}
    assert answer["state"] == "north" and answer["iss"] == metadata["issuer"], answer
    given = {
        "grant_type": "authorization_code",
        "client_id": client,
        "code": answer["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
    }
    async with browser.session.post(metadata["token_endpoint"], data=given) as answer:
        assert answer.status == 200, await answer.text()
        token = (await answer.json())["access_token"]
    whoami = await request(federated, "GET", "/account/whoami", token=token)
    assert whoami.body == {"user_id": f"@carol:{federated.name}", "device_id": "SUNFLOWER"}
    profile = await request(federated, "GET", f"/profile/@carol:{federated.name}/displayname")
    assert profile.body["displayname"] == "carol of the provider"
    await browser.session.close()


CALLBACK = "https://app.example.org/callback"
TAYBERRY_CONFIG = """\
server_name = "{name}"
data_dir = "data"

[[listener]]
bind = "127.0.0.1:{port}"

[well_known]
client_url = "http://127.0.0.1:{port}"

[sso]
allow_private_providers = true

[[upstream]]
id = "example"
name = "Example"
issuer = "http://127.0.0.1:{provider_port}"
client_id = "tayberry"
client_secret = "n0rth & s0uth"
"""
