"""Two servers that share rooms: every test has a server at home and one away. Synapse and Tayberry are each at home once,
and two Tayberries meet; with TAYBERRY_TESTS=whole two Synapses do, too, so that the tests are known to be right."""

import asyncio
import io
import os
import time

import nio
import pytest
from person import Person, expect, part, until_true
from servers import MEETING, Authority

pytestmark = pytest.mark.timeout(240)

PAIRS = [("tayberry", "synapse"), ("synapse", "tayberry"), ("tayberry", "tayberry")]
if os.environ.get("TAYBERRY_TESTS") == "whole":
    PAIRS.insert(0, ("synapse", "synapse"))
WITH_LEFT = '{"room": {"include_leave": true}}'
# The oldest, one of most rooms that there are, and the newest.
VERSIONS = ["1", "6", "10", "11", "12"]


class Pool:
    """The servers of a session, started when a test first wants them."""

    def __init__(self, factory):
        self.factory = factory
        self.authority = Authority(factory.mktemp("authority"))
        self.servers = {}

    def server(self, kind: str, number: int):
        if (kind, number) not in self.servers:
            server = MEETING[kind](self.factory.mktemp(f"{kind}{number}"), self.authority)
            server.start()
            self.servers[kind, number] = server
        return self.servers[kind, number]


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    made = Pool(tmp_path_factory)
    yield made
    for server in made.servers.values():
        server.stop()


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, pool):
    home, away = request.param
    return pool.server(home, 0), pool.server(away, 1)


@pytest.fixture
async def people(pair):
    """Somebody at home and somebody away; `await people.at(server)` is one more."""
    known = People(pair)
    yield known
    for person in known.all:
        await person.close()


class People:
    def __init__(self, pair):
        self.home, self.away = pair
        self.all = []

    async def at(self, server) -> Person:
        self.all.append(await Person.register(server))
        return self.all[-1]

    async def both(self) -> tuple[Person, Person]:
        return await self.at(self.home), await self.at(self.away)


def via(person: Person) -> dict:
    return {"server_name": person.server.name, "via": person.server.name}


async def join(person: Person, room: str, through: Person) -> None:
    await person.do("POST", f"/join/{part(room)}", **via(through))


async def shared_room(host: Person, guest: Person, **options) -> str:
    options = {"preset": "public_chat", **options}
    room = (await host.do("POST", "/createRoom", options))["room_id"]
    await join(guest, room, host)
    return room


async def sees(person: Person, room: str, event_id: str, timeout_s: float = 30) -> dict:
    """The event, once the person's server has it."""
    async def event():
        answer = await person.call("GET", f"/rooms/{part(room)}/event/{part(event_id)}")
        return answer.body if answer.status == 200 else None

    return await until_true(event, timeout_s)


async def bodies(person: Person, room: str, limit: int = 1000) -> list[str]:
    """The texts of a room, oldest first, as far back as the person may see."""
    texts, start = [], None
    while len(texts) < limit:
        query = {"dir": "b", "limit": "100"} | ({"from": start} if start else {})
        page = await person.get(f"/rooms/{part(room)}/messages", **query)
        texts += [e["content"].get("body") for e in page["chunk"] if e["type"] == "m.room.message"]
        start = page.get("end")
        if not start:
            break
    return texts[::-1]


async def state_of(person: Person, room: str) -> dict:
    state = await person.get(f"/rooms/{part(room)}/state")
    return {(event["type"], event["state_key"]): event["event_id"] for event in state}


async def agree(one: Person, other: Person, room: str, timeout_s: float = 30) -> None:
    """Both servers hold the room to be in the same state."""
    async def equal():
        return await state_of(one, room) == await state_of(other, room)

    await until_true(equal, timeout_s)


async def membership(person: Person, room: str, of: Person) -> str | None:
    answer = await person.call("GET", f"/rooms/{part(room)}/state/m.room.member/{part(of.user_id)}")
    return answer.body.get("membership") if answer.status == 200 else None


async def becomes(person: Person, room: str, of: Person, wanted: str) -> None:
    async def is_so():
        return await membership(person, room, of) == wanted

    await until_true(is_so, 30)


async def synced(person: Person, wanted, **query) -> dict:
    """What `wanted` finds in an answer of /sync, the first time it finds something."""
    since = {}
    async with asyncio.timeout(40):
        while True:
            answer = await person.get("/sync", timeout="3000" if since else "0", **since, **query)
            if found := wanted(answer):
                return found
            since = {"since": answer["next_batch"]}


def invitation(room: str):
    return lambda answer: answer.get("rooms", {}).get("invite", {}).get(room)


@pytest.mark.parametrize("version", VERSIONS)
async def test_people_of_two_servers_talk(people, version):
    alice, bob = await people.both()
    room = await shared_room(alice, bob, room_version=version, name="Both")
    for speaker, listener in ((alice, bob), (bob, alice), (alice, bob)):
        said = await speaker.say(room, f"{speaker.user_id} speaks")
        assert (await sees(listener, room, said))["content"]["body"] == f"{speaker.user_id} speaks"
    await alice.put_state(room, "m.room.topic", {"topic": "all sorts"})
    await agree(alice, bob, room)
    assert (await bob.state(room, "m.room.topic"))["topic"] == "all sorts"
    assert (await bob.state(room, "m.room.name"))["name"] == "Both"
    await bob.do("POST", f"/rooms/{part(room)}/leave")
    await becomes(alice, room, bob, "leave")


async def test_a_room_is_joined_by_alias(people):
    alice, bob = await people.both()
    name = alice.localpart
    room = (await alice.do("POST", "/createRoom", {"preset": "public_chat", "room_alias_name": name}))["room_id"]
    alias = f"#{name}:{alice.server.name}"
    found = await bob.get(f"/directory/room/{part(alias)}")
    assert found["room_id"] == room and alice.server.name in found["servers"]
    assert (await bob.do("POST", f"/join/{part(alias)}"))["room_id"] == room
    await becomes(alice, room, bob, "join")


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_an_invitation_is_taken_or_declined(people, version):
    alice, bob = await people.both()
    carol = await people.at(people.away)
    for guest in (bob, carol):
        options = {"preset": "private_chat", "name": "Secret", "room_version": version}
        room = (await alice.do("POST", "/createRoom", options))["room_id"]
        await alice.do("POST", f"/rooms/{part(room)}/invite", {"user_id": guest.user_id})
        invited = await synced(guest, invitation(room))
        shown = {event["type"]: event["content"] for event in invited["invite_state"]["events"]}
        assert shown["m.room.name"]["name"] == "Secret"
        if guest is bob:
            await guest.do("POST", f"/rooms/{part(room)}/join")
            await becomes(alice, room, guest, "join")
            assert (await sees(guest, room, await alice.say(room, "welcome")))["content"]["body"] == "welcome"
        else:
            await guest.do("POST", f"/rooms/{part(room)}/leave")
            await becomes(alice, room, guest, "leave")


async def test_an_invitation_at_creation_reaches_its_guest(people):
    alice, bob = await people.both()
    options = {"invite": [bob.user_id], "is_direct": True, "preset": "trusted_private_chat"}
    room = (await alice.do("POST", "/createRoom", options))["room_id"]
    await synced(bob, invitation(room))
    await bob.do("POST", f"/join/{part(room)}")
    await agree(alice, bob, room)


async def test_somebody_knocks(people):
    alice, bob = await people.both()
    options = {"preset": "private_chat", "room_version": "11", "name": "Behind a door", "initial_state": [
        {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]}
    room = (await alice.do("POST", "/createRoom", options))["room_id"]
    await bob.do("POST", f"/knock/{part(room)}", {"reason": "please"}, **via(alice))
    await becomes(alice, room, bob, "knock")
    await alice.do("POST", f"/rooms/{part(room)}/invite", {"user_id": bob.user_id})
    await synced(bob, invitation(room))
    await bob.do("POST", f"/join/{part(room)}", **via(alice))
    await becomes(alice, room, bob, "join")


@pytest.mark.parametrize("version", ["10", "12"])
async def test_a_restricted_room_takes_members_of_another(people, version):
    alice, bob = await people.both()
    club = await shared_room(alice, bob)
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    options = {"preset": "private_chat", "room_version": version, "initial_state": [
        {"type": "m.room.join_rules", "state_key": "", "content": rule}]}
    room = (await alice.do("POST", "/createRoom", options))["room_id"]
    await join(bob, room, alice)
    await becomes(alice, room, bob, "join")
    stranger = await people.at(people.away)
    refused = await stranger.call("POST", f"/join/{part(room)}", {}, **via(alice))
    assert refused.status == 403, refused


async def test_who_is_kicked_or_banned_is_out(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob)
    await becomes(alice, room, bob, "join")

    def put_out(how):
        def found(answer):
            left = answer.get("rooms", {}).get("leave", {}).get(room, {})
            events = left.get("timeline", {}).get("events", []) + left.get("state", {}).get("events", [])
            own = [event for event in events if event.get("state_key") == bob.user_id]
            return any(event["content"]["membership"] == how for event in own)

        return found

    await alice.do("POST", f"/rooms/{part(room)}/kick", {"user_id": bob.user_id, "reason": "noise"})
    await synced(bob, put_out("leave"), filter=WITH_LEFT)
    await join(bob, room, alice)
    await becomes(alice, room, bob, "join")
    await alice.do("POST", f"/rooms/{part(room)}/ban", {"user_id": bob.user_id})
    await synced(bob, put_out("ban"), filter=WITH_LEFT)
    assert (await bob.call("POST", f"/join/{part(room)}", {}, **via(alice))).status == 403


@pytest.mark.parametrize("version", ["10", "12"])
async def test_a_redaction_takes_the_words_away_there_too(people, version):
    alice, bob = await people.both()
    room = await shared_room(alice, bob, room_version=version)
    said = await alice.say(room, "a secret")
    await sees(bob, room, said)
    await alice.do("PUT", f"/rooms/{part(room)}/redact/{part(said)}/1", {"reason": "slip"})

    async def is_gone():
        return (await sees(bob, room, said))["content"] == {}

    await until_true(is_gone, 30)


async def test_history_is_paged_across_the_join(people):
    alice, bob = await people.both()
    room = (await alice.do("POST", "/createRoom", {"preset": "public_chat"}))["room_id"]
    texts = [f"before {number}" for number in range(60)]
    for text in texts:
        await alice.say(room, text)
    await join(bob, room, alice)
    last = await alice.say(room, "after")
    await sees(bob, room, last)

    async def all_there():
        return await bodies(bob, room) == [*texts, "after"]

    await until_true(all_there, 60)


async def test_typing_and_receipts_cross(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob)
    said = await alice.say(room, "look")
    await sees(bob, room, said)

    def ephemeral(kind, wanted):
        def found(answer):
            events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
            return any(event["type"] == kind and wanted(event["content"]) for event in events)

        return found

    listening = asyncio.create_task(synced(alice, ephemeral("m.typing", lambda c: bob.user_id in c["user_ids"])))
    await asyncio.sleep(0.5)
    await bob.do("PUT", f"/rooms/{part(room)}/typing/{part(bob.user_id)}", {"typing": True, "timeout": 20_000})
    await listening
    await bob.do("POST", f"/rooms/{part(room)}/receipt/m.read/{part(said)}")
    await synced(alice, ephemeral("m.receipt", lambda c: bob.user_id in c.get(said, {}).get("m.read", {})))


async def test_presence_crosses(people):
    alice, bob = await people.both()
    await shared_room(alice, bob)
    status = {"presence": "online", "status_msg": f"{bob.user_id} is at tea"}

    def told(answer):
        events = answer.get("presence", {}).get("events", [])
        return [e for e in events if e["sender"] == bob.user_id and e["content"].get("status_msg") == status["status_msg"]]

    listening = asyncio.create_task(synced(alice, told))
    await asyncio.sleep(0.5)
    await bob.do("PUT", f"/presence/{part(bob.user_id)}/status", status)
    assert (await listening)[-1]["content"]["presence"] == "online"
    assert (await alice.get(f"/presence/{part(bob.user_id)}/status"))["status_msg"] == status["status_msg"]


async def test_profiles_and_directories_are_asked_for(people):
    alice, bob = await people.both()
    await bob.do("PUT", f"/profile/{part(bob.user_id)}/displayname", {"displayname": "Bob the Away"})
    profile = await alice.get(f"/profile/{part(bob.user_id)}")
    assert profile["displayname"] == "Bob the Away"
    absent = await alice.call("GET", f"/profile/{part('@nobody:' + bob.server.name)}")
    assert (absent.status, absent.errcode) == (404, "M_NOT_FOUND")
    name = f"listed {bob.localpart}"
    options = {"preset": "public_chat", "name": name, "visibility": "public"}
    room = (await bob.do("POST", "/createRoom", options))["room_id"]

    async def listed():
        query = {"filter": {"generic_search_term": name}}
        page = await alice.do("POST", f"/publicRooms?server={part(bob.server.name)}", query)
        return [entry for entry in page["chunk"] if entry["room_id"] == room]

    assert (await until_true(listed))[0]["name"] == name


async def test_a_new_name_is_shown_there(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob)
    await bob.do("PUT", f"/profile/{part(bob.user_id)}/displayname", {"displayname": "Robert"})

    async def shown():
        answer = await alice.call("GET", f"/rooms/{part(room)}/state/m.room.member/{part(bob.user_id)}")
        return answer.body.get("displayname") == "Robert"

    await until_true(shown, 30)


async def test_messages_missed_while_stopped_are_caught_up(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob)
    await sees(bob, room, await alice.say(room, "first"))
    bob.server.stop()
    try:
        texts = [f"missed {number}" for number in range(1000)]
        for start in range(0, len(texts), 20):
            await asyncio.gather(*(alice.say(room, text) for text in texts[start:start + 20]))
    finally:
        bob.server.start()
    await bob.say(room, "back")
    last = await alice.say(room, "last")
    await sees(bob, room, last, 120)

    if {alice.server.kind, bob.server.kind} == {"synapse"}:
        return  # It takes the newest and leaves a gap that no page closes in the time of a test.

    async def all_there():
        return set(texts) <= set(await bodies(bob, room, 2000))

    await until_true(all_there, 60)


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
async def test_a_fork_ends_in_equal_state(people, version):
    alice, bob = await people.both()
    room = await shared_room(alice, bob, room_version=version)
    levels = await alice.state(room, "m.room.power_levels")
    levels.setdefault("users", {})[bob.user_id] = 50
    await alice.put_state(room, "m.room.power_levels", levels)
    await agree(alice, bob, room)
    bob.server.stop()
    try:
        await alice.put_state(room, "m.room.topic", {"topic": "of home"})
        levels["users"][bob.user_id] = 0
        await alice.put_state(room, "m.room.power_levels", levels)
        await alice.say(room, "home alone")
    finally:
        alice.server.stop()
        bob.server.start()
    try:
        await bob.put_state(room, "m.room.topic", {"topic": "of away"})
        await bob.put_state(room, "m.room.name", {"name": "forked"})
        await bob.say(room, "away alone")
    finally:
        alice.server.start()
    # Word from each brings the other to look for what it missed.
    heard = [await alice.say(room, "home again"), await bob.say(room, "away again")]
    for person in (alice, bob):
        for event in heard:
            await sees(person, room, event, 60)
    await agree(alice, bob, room, 60)
    for person in (alice, bob):
        texts = set(await bodies(person, room))
        assert {"home alone", "home again", "away again"} <= texts


async def test_media_is_fetched(people):
    alice, bob = await people.both()
    content = bytes(range(256)) * 1000
    kind = "application/octet-stream"
    uploaded, _ = await alice.client.upload(lambda *_: io.BytesIO(content), kind, "bytes", filesize=len(content))
    url = expect(uploaded, nio.UploadResponse).content_uri
    got = expect(await bob.client.download(url), nio.DownloadResponse)
    assert got.body == content


async def test_an_upgraded_room_is_followed(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob, room_version="10")
    replacement = (await alice.do("POST", f"/rooms/{part(room)}/upgrade", {"new_version": "11"}))["replacement_room"]

    async def tombstone():
        answer = await bob.call("GET", f"/rooms/{part(room)}/state/m.room.tombstone/")
        return answer.body.get("replacement_room") == replacement

    await until_true(tombstone, 30)
    await join(bob, replacement, alice)
    await becomes(alice, replacement, bob, "join")


async def test_a_message_arrives_soon(people):
    alice, bob = await people.both()
    room = await shared_room(alice, bob)
    await sees(bob, room, await alice.say(room, "warm"))
    begun = time.monotonic()
    await sees(bob, room, await alice.say(room, "fast"))
    assert time.monotonic() - begun < 5
