"""A person with a matrix-nio client, and plain HTTP with the same token for the calls that nio has not."""

import asyncio
import itertools
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import nio

CLIENT = "/_matrix/client/v3"
PASSWORD = "correct horse battery staple"
numbers = itertools.count(1)


@dataclass
class Answer:
    """A plain answer: status and JSON."""

    status: int
    body: dict

    @property
    def errcode(self) -> str | None:
        return self.body.get("errcode")


async def request(server, method: str, path: str, body=None, token: str | None = None, **query) -> Answer:
    """Sends one request; `path` starts after `/_matrix/client/v3`, or is whole if it begins with `/_matrix`."""
    url = server.url + (path if path.startswith("/_matrix") else CLIENT + path)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session:
        async with session.request(method, url, json=body, headers=headers, params=query) as answer:
            return Answer(answer.status, await answer.json(content_type=None))


def part(text: str) -> str:
    """One path segment."""
    return quote(text, safe="")


def expect(response, kind: type):
    """The response, if nio understood it as `kind`; nio answers errors of server and schema alike as other types."""
    assert isinstance(response, kind), repr(response)
    return response


class Person:
    """One login of one user."""

    def __init__(self, server, client: nio.AsyncClient, localpart: str, password: str = PASSWORD):
        self.server = server
        self.client = client
        self.localpart = localpart
        self.password = password

    @classmethod
    async def register(cls, server, localpart: str | None = None) -> "Person":
        localpart = localpart or f"person{next(numbers)}"
        person = cls(server, new_client(server), localpart)
        expect(await person.client.register(localpart, PASSWORD, "first device"), nio.RegisterResponse)
        return person

    async def another_login(self, name: str = "another device") -> "Person":
        """The same user on a further device."""
        other = Person(self.server, new_client(self.server, self.user_id), self.localpart, self.password)
        expect(await other.client.login(self.password, name), nio.LoginResponse)
        return other

    @property
    def user_id(self) -> str:
        return self.client.user_id

    @property
    def device_id(self) -> str:
        return self.client.device_id

    @property
    def token(self) -> str:
        return self.client.access_token

    async def call(self, method: str, path: str, body=None, **query) -> Answer:
        return await request(self.server, method, path, body, self.token, **query)

    async def get(self, path: str, **query) -> dict:
        """The body of a GET that must succeed."""
        answer = await self.call("GET", path, **query)
        assert answer.status == 200, answer
        return answer.body

    async def do(self, method: str, path: str, body=None, **query) -> dict:
        """The body of a call that must succeed."""
        answer = await self.call(method, path, {} if body is None else body, **query)
        assert answer.status == 200, answer
        return answer.body

    def password_auth(self, session: str, password: str | None = None) -> dict:
        """The password stage of user-interactive authentication."""
        return {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": password or self.password,
            "session": session,
        }

    async def create_room(self, *guests: "Person", **options) -> str:
        """A new room that the guests are invited to and have joined."""
        options.setdefault("preset", nio.RoomPreset.private_chat)
        invite = [guest.user_id for guest in guests]
        made = expect(await self.client.room_create(invite=invite, **options), nio.RoomCreateResponse)
        for guest in guests:
            await guest.join(made.room_id)
        return made.room_id

    async def join(self, room: str) -> None:
        expect(await self.client.join(room), nio.JoinResponse)

    async def say(self, room_id: str, text: str, txn_id: str | None = None) -> str:
        """Sends a text message and returns its event id."""
        content = {"msgtype": "m.text", "body": text}
        sent = await self.client.room_send(room_id, "m.room.message", content, txn_id)
        return expect(sent, nio.RoomSendResponse).event_id

    async def put_state(self, room_id: str, event_type: str, content: dict, state_key: str = "") -> str:
        put = await self.client.room_put_state(room_id, event_type, content, state_key)
        return expect(put, nio.RoomPutStateResponse).event_id

    async def state(self, room_id: str, event_type: str, state_key: str = "") -> dict:
        """The content of one entry of the room's state."""
        got = await self.client.room_get_state_event(room_id, event_type, state_key)
        return expect(got, nio.RoomGetStateEventResponse).content

    async def membership(self, room_id: str, of: "Person") -> str:
        return (await self.state(room_id, "m.room.member", of.user_id))["membership"]

    async def joined_rooms(self) -> list[str]:
        return expect(await self.client.joined_rooms(), nio.JoinedRoomsResponse).rooms

    async def close(self) -> None:
        await self.client.close()


async def at_a_desk(device) -> Person:
    """The user of a device that a process runs, logged in once more, by requests alone."""
    person = Person(device.server, new_client(device.server, device.user_id), device.localpart)
    expect(await person.client.login(PASSWORD, "a desk"), nio.LoginResponse)
    return person


def new_client(server, user: str = "") -> nio.AsyncClient:
    """A client that retries soon after its server went away, for as long as the test runs."""
    config = nio.AsyncClientConfig(backoff_factor=0.05, max_timeout_retry_wait_time=0.5)
    return nio.AsyncClient(server.url, user, config=config)


async def until(condition, timeout_s: float = 20):
    """Waits until `condition()` is true, and returns what it gave."""
    async with asyncio.timeout(timeout_s):
        while not (result := condition()):
            await asyncio.sleep(0.02)
        return result


async def until_true(condition, timeout_s: float = 20):
    """The same with a condition that is awaited."""
    async with asyncio.timeout(timeout_s):
        while not (result := await condition()):
            await asyncio.sleep(0.05)
        return result
