"""The pages of OAuth in Debian's Chromium, whose policy lets no script run: a person makes an account, lets programs in and
looks after the account. Pictures of the pages, of a phone's size, are left in tests/.cache/pages."""

import base64
import hashlib
import http.server
import json
import os
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from person import PASSWORD
from servers import Tayberry, free_port

PICTURES = Path(__file__).parent.parent / ".cache" / "pages"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

pytestmark = pytest.mark.timeout(240)


class Browser:
    """Chromium of a phone's size, over the WebDriver protocol."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL)
        self.session = ""
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--hide-scrollbars"],
            "mobileEmulation": {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0}},
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        deadline = time.monotonic() + 60
        while not self.session:
            try:
                created = self.do("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
                self.session = f"/session/{created['sessionId']}"
            except urllib.error.HTTPError:
                raise
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "chromedriver does not answer"
                time.sleep(0.1)

    def do(self, method: str, path: str, body: dict | None = None):
        data = None if method in ("GET", "DELETE") else json.dumps(body or {}).encode()
        url = f"http://127.0.0.1:{self.port}{self.session}{path}"
        request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        self.do("DELETE", "")
        self.driver.terminate()
        self.driver.wait()

    def open(self, url: str) -> None:
        self.do("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return self.do("GET", "/url")

    def all(self, selector: str) -> list[str]:
        found = self.do("POST", "/elements", {"using": "css selector", "value": selector})
        return [element[ELEMENT] for element in found]

    def one(self, selector: str) -> str:
        [element] = self.all(selector)
        return element

    def text(self, selector: str = "main") -> str:
        return self.do("GET", f"/element/{self.one(selector)}/text")

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            element = self.one(f"input[name={name}]")
            self.do("POST", f"/element/{element}/clear")
            self.do("POST", f"/element/{element}/value", {"text": text})

    def click(self, selector: str) -> None:
        self.leave(self.one(selector))

    def link(self, words: str) -> None:
        [element] = self.do("POST", "/elements", {"using": "partial link text", "value": words})
        self.leave(element[ELEMENT])

    def leave(self, element: str) -> None:
        """Clicks on what leads elsewhere, and waits until it has."""
        page = self.one("html")
        self.do("POST", f"/element/{element}/click")
        deadline = time.monotonic() + 30
        while self.is_there(page):
            assert time.monotonic() < deadline, f"the browser stays at {self.url}"
            time.sleep(0.05)

    def is_there(self, element: str) -> bool:
        try:
            self.do("GET", f"/element/{element}/name")
            return True
        except urllib.error.HTTPError:
            return False

    def dark(self, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})

    def picture(self, name: str) -> None:
        """Takes the page as it is and in the dark, and looks whether everybody can use it."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        for suffix in ("-dark", ""):
            self.dark(bool(suffix))
            picture = base64.b64decode(self.do("GET", "/screenshot"))
            (PICTURES / f"{name}{suffix}.png").write_bytes(picture)
        assert self.do("GET", f"/element/{self.one('html')}/attribute/lang") == "en"
        assert self.text("h1") and self.do("GET", "/title")
        for element in self.all("input:not([type=hidden]), button, a"):
            assert self.do("GET", f"/element/{element}/computedlabel").strip(), "nobody is told what it is for"
        for element in self.all("button, input:not([type=hidden]):not([type=checkbox])"):
            assert self.do("GET", f"/element/{element}/rect")["height"] >= 38, "no finger hits it"
        assert self.do("GET", f"/element/{self.one('main')}/rect")["width"] <= 390, "it is wider than the phone"

    def complaints(self) -> list[str]:
        """What the browser refused to do for a page."""
        messages = [entry["message"] for entry in self.do("POST", "/se/log", {"type": "browser"})]
        return [message for message in messages if "Content Security" in message]


class Program:
    """A program on this machine that people let in."""

    def __init__(self, server: Tayberry, name: str):
        self.server = server
        with urllib.request.urlopen(f"{server.url}/_matrix/client/v1/auth_metadata") as answer:
            self.metadata = json.load(answer)
        said = {
            "client_name": name,
            "client_uri": "https://app.example.com/",
            "policy_uri": "https://app.example.com/privacy",
            "redirect_uris": ["http://127.0.0.1/callback"],
            "application_type": "native",
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        }
        told = self.post(self.metadata["registration_endpoint"], json.dumps(said))
        self.client_id = told["client_id"]
        self.verifier = secrets.token_urlsafe(48)
        self.answers: list[dict[str, str]] = []
        program = self

        class Callback(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                if url.path == "/callback":
                    program.answers.append(dict(urllib.parse.parse_qsl(url.query)))
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>Back</title>")

            def log_message(self, *_):
                pass

        self.listener = http.server.HTTPServer(("127.0.0.1", 0), Callback)
        self.redirect_uri = f"http://127.0.0.1:{self.listener.server_address[1]}/callback"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    @staticmethod
    def post(url: str, body: str) -> dict:
        with urllib.request.urlopen(urllib.request.Request(url, body.encode())) as answer:
            return json.load(answer)

    def url(self, **more: str) -> str:
        """Where a person lets it in."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self.scope("BROWSERAPP"),
            "state": "north",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{self.metadata['authorization_endpoint']}?{urllib.parse.urlencode(asked | more)}"

    @staticmethod
    def scope(device: str) -> str:
        return f"urn:matrix:client:api:* urn:matrix:client:device:{device}"

    def token(self, **given: str) -> dict:
        return self.post(self.metadata["token_endpoint"], urllib.parse.urlencode({"client_id": self.client_id} | given))

    def exchange(self) -> str:
        """The access token for what it was answered last."""
        answer = self.answers[-1]
        assert answer["state"] == "north"
        given = {"code": answer["code"], "redirect_uri": self.redirect_uri, "code_verifier": self.verifier}
        return self.token(grant_type="authorization_code", **given)["access_token"]

    def whoami(self, token: str) -> dict:
        headers = {"authorization": f"Bearer {token}"}
        url = f"{self.server.url}/_matrix/client/v3/account/whoami"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return json.load(answer)


@pytest.fixture
def home(tmp_path):
    server = Tayberry(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.close()


def test_a_person_lets_programs_in_and_looks_after_the_account(home, browser):
    program = Program(home, "Sunflower")
    browser.open(program.url(prompt="create"))
    browser.picture("register")
    browser.fill(user="alice", password=PASSWORD, again=PASSWORD + "x")
    browser.click("button.main")
    assert "differ" in browser.text("[role=alert]")
    browser.picture("register-problem")
    browser.fill(password=PASSWORD, again=PASSWORD)
    browser.click("button.main")

    assert "Sunflower" in browser.text("h1") and f"@alice:{home.name}" in browser.text()
    browser.picture("consent")
    browser.click("button[value=allow]")
    assert browser.url.startswith(program.redirect_uri)
    token = program.exchange()
    assert program.whoami(token) == {"user_id": f"@alice:{home.name}", "device_id": "BROWSERAPP"}

    browser.open(program.url())
    browser.click("button[value=deny]")
    assert program.answers[-1] == {"error": "access_denied", "state": "north", "iss": program.metadata["issuer"]}

    account = program.metadata["account_management_uri"]
    browser.open(account)
    browser.picture("account")
    browser.link("Your display name")
    browser.fill(name="Alice Liddell")
    browser.picture("name")
    browser.click("button.main")
    assert "saved" in browser.text("[role=status]")
    browser.picture("saved")
    browser.link("Change your password")
    browser.picture("password")
    browser.fill(password="wrong", new="another one", again="another one")
    browser.click("button.main")
    assert "wrong" in browser.text("[role=alert]")
    browser.fill(password=PASSWORD, new="another one", again="another one")
    browser.click("button.main")
    assert "changed" in browser.text("[role=status]")

    browser.open(f"{account}?action=org.matrix.cross_signing_reset")
    browser.picture("reset")
    browser.open(f"{account}?action=org.matrix.account_deactivate")
    browser.picture("deactivate")
    browser.open(f"{account}?action=org.matrix.device_delete&device_id=BROWSERAPP")
    browser.picture("session")
    browser.click("button.danger")
    with pytest.raises(urllib.error.HTTPError):
        program.whoami(token)

    browser.click("button.other")
    browser.picture("sign-in")
    browser.fill(user="alice", password=PASSWORD)
    browser.click("button.main")
    assert "wrong" in browser.text("[role=alert]")
    browser.picture("sign-in-problem")
    browser.fill(password="another one")
    browser.click("button.main")
    assert browser.text("h1") == "Your account"
    assert browser.complaints() == []


def test_a_person_lets_a_device_in_that_has_no_browser(home, browser):
    program = Program(home, "Lighthouse")
    asked = urllib.parse.urlencode({"client_id": program.client_id, "scope": program.scope("CONSOLE")})
    codes = program.post(program.metadata["device_authorization_endpoint"], asked)
    browser.open(codes["verification_uri"])
    browser.link("Create an account")
    browser.fill(user="bob", password=PASSWORD, again=PASSWORD)
    browser.click("button.main")
    browser.picture("link")
    browser.fill(user_code="wrong")
    browser.click("button.main")
    browser.picture("link-problem")
    browser.fill(user_code=codes["user_code"].lower())
    browser.click("button.main")
    assert codes["user_code"] in browser.text()
    browser.picture("link-consent")
    browser.click("button[value=allow]")
    browser.picture("linked")
    token = program.token(grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=codes["device_code"])
    assert program.whoami(token["access_token"])["device_id"] == "CONSOLE"
    assert browser.complaints() == []


@pytest.fixture
def guarded(tmp_path):
    """A server where one needs a token to register, or somebody elsewhere who knows one."""
    server = GuardedTayberry(tmp_path)
    server.start()
    yield server
    server.stop()


class GuardedTayberry(Tayberry):
    def command(self) -> list[str]:
        self.config.write_text(GUARDED_CONFIG.format(name=self.name, port=self.port))
        return [str(self.binary), "serve", "--config", str(self.config)]

    @property
    def config(self) -> Path:
        return self.folder / "tayberry.toml"

    @property
    def binary(self) -> Path:
        return Path(os.environ["TAYBERRY_BINARY"]).resolve()

    def registration_token(self) -> str:
        command = [str(self.binary), "registration-token", "create", "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[0]


def test_a_person_with_a_token_gets_an_account(guarded, browser):
    program = Program(guarded, "Sunflower")
    browser.open(program.url(prompt="create"))
    browser.picture("register-token")
    browser.fill(user="carol", password=PASSWORD, again=PASSWORD, token="guessed")
    browser.click("button.main")
    assert "token" in browser.text("[role=alert]")
    browser.fill(password=PASSWORD, again=PASSWORD, token=guarded.registration_token())
    browser.click("button.main")
    assert f"@carol:{guarded.name}" in browser.text()
    browser.click("button[value=allow]")
    assert program.whoami(program.exchange())["user_id"] == f"@carol:{guarded.name}"
    assert browser.complaints() == []


def test_the_page_to_sign_in_has_a_button_for_each_provider(guarded, browser):
    browser.open(Program(guarded, "Sunflower").url())
    browser.picture("sign-in-elsewhere")
    [button] = browser.all("a.button")
    assert browser.do("GET", f"/element/{button}/text") == "Continue with Harbour"
    assert browser.do("GET", f"/element/{button}/rect")["height"] >= 38, "no finger hits it"
    assert browser.complaints() == []


def test_a_program_that_nobody_knows_gets_a_page(home, browser):
    browser.open(f"{home.url}/oauth/authorize?client_id=nobody&redirect_uri=https://evil.example/")
    assert browser.text("[role=alert]")
    browser.picture("unknown")


GUARDED_CONFIG = """\
server_name = "{name}"
data_dir = "data"

[[listener]]
bind = "127.0.0.1:{port}"

[registration]
mode = "token"

[well_known]
client_url = "http://127.0.0.1:{port}"

[sso]
allow_private_providers = true

[[upstream]]
id = "harbour"
name = "Harbour"
issuer = "http://127.0.0.1:1"
client_id = "tayberry"
client_secret = "n0rth & s0uth"
"""
