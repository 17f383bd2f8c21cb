"""What Element X is made of, matrix-sdk and matrix-sdk-ui: its list of rooms and its timelines over sliding sync."""

import asyncio
import contextlib
import os
import random
import ssl
import time
from pathlib import Path

import pytest
from aiohttp import web
from person import at_a_desk, until
from servers import Authority, Tayberry

pytestmark = pytest.mark.timeout(240)


async def talking(new_element_x):
    """Two people in an encrypted room that both look into."""
    alice, bob = await asyncio.gather(new_element_x("alice"), new_element_x("bob"))
    room = await alice.do("create_room", name="The garden", invite=[bob.user_id], encrypted=True)
    await alice.open(room)
    await bob.join(room)
    await alice.until(lambda shown: shown["joined"] == 2, "room", room=room)
    return alice, bob, room


def heard(messages: list[dict]) -> list[tuple[str, str, bool]]:
    """Sender and text of each message, and whether it was encrypted."""
    return [(message["sender"], message["body"], message["encrypted"]) for message in messages]


async def test_people_talk_in_an_encrypted_room(new_element_x):
    alice, bob, room = await talking(new_element_x)
    told = []
    for one, other in ((alice, bob), (bob, alice)):
        told.append(await one.say(room, f"from {one.localpart}"))
        message = await other.message(room, told[-1])
        assert heard([message]) == [(one.user_id, f"from {one.localpart}", True)]

    await bob.do("reply", room=room, event=told[0], body="an answer")
    answer = await bob.said(room, "an answer")
    assert (await alice.message(room, answer))["in_reply_to"] == told[0]
    await alice.do("edit", room=room, event=told[0], body="said better")
    await bob.until(lambda messages: [m["body"] for m in messages if m["edited"]] == ["said better"], "messages", room=room)
    await alice.do("react", room=room, event=answer, key="🫖")
    await bob.until(lambda messages: messages[-1]["reactions"] == {"🫖": 1}, "messages", room=room)
    await alice.do("react", room=room, event=answer, key="🫖")
    await bob.until(lambda messages: messages[-1]["reactions"] == {}, "messages", room=room)
    await bob.do("redact", room=room, event=told[1])
    await alice.until(lambda messages: [m["redacted"] for m in messages] == [False, True, False], "messages", room=room)

    # What alice has not read is counted, until she has.
    last = await bob.say(room, "the last word")
    await alice.message(room, last)
    await alice.until(lambda shown: shown["unread"] > 0, "room", room=room)
    await alice.do("read", room=room)
    await alice.until(lambda shown: shown["unread"] == shown["counted"]["notifications"] == 0, "room", room=room)
    await bob.until(lambda messages: alice.user_id in messages[-1]["read_by"], "messages", room=room)


async def test_people_log_in_with_oauth(new_element_x):
    alice, bob = await asyncio.gather(*(new_element_x(name, oauth=True) for name in ("alice", "bob")))
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=True)
    await alice.open(room)
    await bob.join(room)
    await bob.message(room, await alice.say(room, "before"))
    # Another device comes the same way, and the app stays logged in when it is closed.
    second = await new_element_x("bob", oauth=True, known=True)
    assert second.user_id == bob.user_id and second.device_id != bob.device_id
    device = bob.device_id
    await bob.close()
    await bob.come_back()
    assert bob.device_id == device
    await bob.open(room)
    await second.open(room)
    await alice.until(lambda trust: trust["device"] is not None, "trust", user=bob.user_id, device=second.device_id)
    sent = await alice.say(room, "after")
    for one in (bob, second):
        assert (await one.message(room, sent))["body"] == "after"


async def test_devices_of_a_user_verify_each_other(new_element_x):
    alice, bob, room = await talking(new_element_x)
    await alice.do("set_up_recovery")
    await alice.do("answer_verifications")
    second = await new_element_x("alice", known=True)
    await alice.until(lambda trust: trust["device"] is False, "trust", user=alice.user_id, device=second.device_id)
    await second.until(lambda secrets: secrets["device"] == "Unverified", "secrets")

    shown = await second.do("verify")
    await alice.until(lambda compared: compared == [shown], "compared")
    for one in (alice, bob):
        await one.until(lambda trust: trust["device"], "trust", user=alice.user_id, device=second.device_id)
    # The new device was given the secrets, and with the key of the backup reads on its own what was said before.
    wanted = {"device": "Verified", "recovery": "Enabled", "backup": "Enabled", "signs": True}
    await second.until(lambda secrets: secrets | wanted == secrets, "secrets")


async def test_people_verify_each_other(new_element_x):
    alice, bob = await asyncio.gather(new_element_x("alice"), new_element_x("bob"))
    room = await alice.do("create_room", invite=[bob.user_id], direct=True)
    await alice.open(room)
    await bob.join(room)
    for one in (alice, bob):
        await one.until(lambda shown: shown["joined"] == 2 and shown["direct"], "room", room=room)
    # By what is said they come to know each other's keys.
    for one, other in ((alice, bob), (bob, alice)):
        await other.message(room, await one.say(room, f"from {one.localpart}"))
        await other.until(lambda trust: trust["known"] and not trust["user"], "trust", user=one.user_id)
    await bob.do("answer_verifications")
    verifying = asyncio.create_task(alice.do("verify", user=bob.user_id))
    # Keys that came by way of the room are answered between two requests for what comes to a device, and each of those is
    # waited for half a minute if nothing does. Whoever looks away and back begins the next at once.
    while not verifying.done():
        await asyncio.sleep(1)
        for one in (alice, bob):
            await one.do("sleep")
            await one.do("wake")
    shown = verifying.result()
    await bob.until(lambda compared: compared == [shown], "compared")
    for one, other in ((alice, bob), (bob, alice)):
        await one.until(lambda trust: trust["user"], "trust", user=other.user_id)
    second = await new_element_x("bob", known=True)
    await alice.until(lambda trust: trust["device"] is False, "trust", user=bob.user_id, device=second.device_id)


async def test_a_new_device_recovers_what_was_said(new_element_x):
    alice, bob, room = await talking(new_element_x)
    said = []
    for n in range(3):
        said.append(await bob.say(room, f"before {n}"))
        await alice.message(room, said[-1])
        await bob.do("renew_session", room=room)
    key = await alice.do("set_up_recovery")
    said.append(await bob.say(room, "with a backup"))
    await alice.message(room, said[-1])
    backed_up = (await alice.until(lambda secrets: secrets["backed_up"] >= 4, "secrets"))["backed_up"]
    assert backed_up == 4
    await alice.close()

    second = await new_element_x("alice", known=True)
    await second.open(room)
    messages = await second.history(room)
    assert [message["event_id"] for message in messages] == said and all(message["failed"] for message in messages)
    await second.do("recover", recovery_key=key)
    for event in said:
        await second.message(room, event)
    wanted = {"device": "Verified", "recovery": "Enabled", "backup": "Enabled", "signs": True}
    await second.until(lambda secrets: secrets | wanted == secrets, "secrets")


class PushingTayberry(Tayberry):
    """A Tayberry that sends pushes to a gateway on loopback."""

    authority: Authority

    def command(self) -> list[str]:
        config = self.folder / "tayberry.toml"
        config.write_text(PUSHING_CONFIG.format(name=self.name, port=self.port, authority=self.authority.file))
        return [super().command()[0], "serve", "--config", str(config)]


PUSHING_CONFIG = """\
server_name = "{name}"
data_dir = "data"
registration.mode = "open"
rate_limit.enabled = false
well_known.client_url = "http://127.0.0.1:{port}"
push.allow_private_gateways = true
federation.trusted_ca_files = ["{authority}"]

[[listener]]
bind = "127.0.0.1:{port}"
"""


@pytest.fixture
def own_server(request, tmp_path):
    """A running server that the test may stop and kill; it also sends pushes."""
    server = PushingTayberry(tmp_path)
    server.authority = Authority(tmp_path)
    server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def gateway(authority: Authority, folder: Path):
    """A push gateway: where it is, and what it was told."""
    told = []

    async def notify(request: web.Request) -> web.Response:
        told.append((await request.json())["notification"])
        return web.json_response({"rejected": []})

    app = web.Application()
    app.router.add_post("/_matrix/push/v1/notify", notify)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.certify(folder))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"https://127.0.0.1:{port}/_matrix/push/v1/notify", told
    finally:
        await runner.cleanup()


async def test_a_push_wakes_the_app_which_fetches_the_event(new_element_x, own_server, tmp_path):
    alice, bob, room = await talking(new_element_x)
    async with gateway(own_server.authority, tmp_path) as (url, told):
        await alice.do("set_pusher", url=url)
        await alice.do("sleep")
        sent = await bob.say(room, "Are you asleep?")
        await until(lambda: told)
        assert (told[0]["room_id"], told[0]["event_id"]) == (room, sent) and "content" not in told[0]
        shown = await alice.do("notification", room=room, event=sent)
        expected = {"body": "Are you asleep?", "sender": bob.user_id, "room_name": "The garden", "encrypted": True}
        assert shown | expected | {"status": "Event", "invite": False} == shown

        # An invitation wakes it, too.
        other = await bob.do("create_room", name="The pond", invite=[alice.user_id])
        [invite] = await until(lambda: [push for push in told if push.get("room_id") == other])
        shown = await alice.do("notification", room=other, event=invite["event_id"])
        assert shown | {"invite": True, "sender": bob.user_id, "room_name": "The pond"} == shown
        await alice.do("wake")
        assert (await alice.message(room, sent))["body"] == "Are you asleep?"


async def test_a_space_and_what_is_in_it(new_element_x):
    alice, bob = await asyncio.gather(new_element_x("alice"), new_element_x("bob"))
    space = await alice.do("create_room", name="Wonderland", invite=[bob.user_id], space=True)
    rooms = {name: await alice.do("create_room", name=name, invite=[bob.user_id]) for name in ("The pool", "The tea party")}
    hidden = await alice.do("create_room", name="The rabbit hole")
    for room in (space, hidden, *rooms.values()):
        await alice.until(lambda shown: shown and shown["joined"] == 1, "room", room=room)
    for room in (hidden, *rooms.values()):
        await alice.do("add_to_space", room=space, child=room)
    shown = await alice.until(lambda spaces: [space["children"] for space in spaces] == [3], "spaces")
    assert (shown[0]["room"], shown[0]["name"]) == (space, "Wonderland")

    await bob.until(lambda shown: shown and shown["membership"] == "Invited", "room", room=space)
    assert await bob.do("spaces") == []
    await bob.do("join", room=space)
    await bob.until(lambda spaces: [(space["name"], space["children"]) for space in spaces] == [("Wonderland", 3)], "spaces")
    # Whoever is in the space sees of what is in it what is theirs to see.
    assert {room["name"] for room in await bob.do("space_rooms", room=space)} == set(rooms)
    assert {room["name"] for room in await alice.do("space_rooms", room=space)} == {*rooms, "The rabbit hole"}


async def test_who_goes_silent_leaves_a_call(new_element_x):
    alice, bob, room = await talking(new_element_x)

    async def sees(*people):
        await bob.until(lambda shown: shown["in_call"] == [person.user_id for person in people], "room", room=room)

    await alice.do("join_call", room=room, delay_ms=60_000)
    await sees(alice)
    await alice.do("update_call", room=room, action="send")
    await sees()

    begun = time.monotonic()
    await alice.do("join_call", room=room, delay_ms=4_000)
    await sees(alice)
    for _ in range(2):
        await asyncio.sleep(2.5)
        await alice.do("update_call", room=room, action="restart")
    silent = time.monotonic()
    assert silent - begun > 5 and (await bob.do("room", room=room))["in_call"] == [alice.user_id]
    # The app is gone, as when a battery is empty.
    await alice.close()
    await sees()
    assert time.monotonic() - silent > 3.5


async def test_the_list_of_two_hundred_rooms(new_element_x):
    alice = await new_element_x("alice")
    hands = await at_a_desk(alice)
    names = [f"room {n:03}" for n in range(200)]
    rooms = {name: await hands.create_room(name=name) for name in names}
    random.Random(7).shuffle(names)

    async def stir(name):
        """Says something, and waits until the app's list shows that: what it lags behind, it forgets."""
        await hands.say(rooms[name], "Is anybody there?")
        await alice.until(lambda shown: shown[:1] == [name], "rooms")

    for name in names:
        await stir(name)
    again = await new_element_x("alice", known=True)
    for one in (alice, again):
        await one.until(lambda shown: shown == names[::-1], "rooms")
    for name in (names[0], names[100]):
        await stir(name)
    newest = [names[100], names[0], *(name for name in names[::-1] if name not in (names[0], names[100]))]
    for one in (alice, again):
        await one.until(lambda shown: shown == newest, "rooms")
    await hands.close()


@pytest.mark.parametrize("how", ["asleep", "closed"])
async def test_nothing_is_missing_after_a_sleep(new_element_x, how):
    alice, bob, room = await talking(new_element_x)
    first = await bob.say(room, "Good night")
    await alice.message(room, first)
    await alice.do("read", room=room)
    await alice.until(lambda shown: shown["unread"] == shown["counted"]["notifications"] == 0, "room", room=room)
    await (alice.do("sleep") if how == "asleep" else alice.close())
    hands = await at_a_desk(bob)
    for n in range(500):
        # Some of it is encrypted, with one key after another.
        if n % 20 == 0:
            await bob.do("renew_session", room=room)
            await bob.say(room, f"sheep {n}")
        else:
            await hands.say(room, f"sheep {n}")
    await hands.close()
    await (alice.do("wake") if how == "asleep" else alice.come_back())
    if how == "closed":
        await alice.open(room)
    await alice.until(lambda shown: shown["counted"]["notifications"] == 500, "room", room=room)
    expected = [(bob.user_id, "Good night", True), *((bob.user_id, f"sheep {n}", n % 20 == 0) for n in range(500))]
    await alice.history(room)
    messages = await alice.until(lambda messages: not any(message["failed"] for message in messages), "messages", room=room)
    assert heard(messages) == expected
    assert len({message["event_id"] for message in messages}) == 501


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_server_is_started_again(new_element_x, own_server, how):
    alice, bob, room = await talking(new_element_x)
    said = [await alice.say(room, "before")]
    await bob.message(room, said[0])
    await asyncio.to_thread(getattr(own_server, how))
    # What is written meanwhile is sent later.
    await alice.do("send", room=room, body="into the void")
    await asyncio.sleep(1)
    await asyncio.to_thread(own_server.start)
    said.append(await alice.said(room, "into the void"))
    for one, other in ((alice, bob), (bob, alice)):
        said.append(await one.say(room, f"from {one.localpart}"))
        await other.message(room, said[-1])
    for one in (alice, bob):
        messages = await one.history(room)
        # The library itself can show twice what a device sent after it had to begin anew; the server tells of it once.
        assert list(dict.fromkeys(message["event_id"] for message in messages)) == said
        others = [message["event_id"] for message in messages if message["sender"] != one.user_id]
        assert len(set(others)) == len(others)
