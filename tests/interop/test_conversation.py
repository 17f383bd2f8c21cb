"""Two people talk with matrix-nio, through a restart and a crash of their server, and lose nothing."""

import asyncio
from contextlib import asynccontextmanager

import nio
import pytest
from person import Person, expect, part, until


class Listener:
    """What one client saw, in order, while its sync loop ran."""

    def __init__(self, person: Person):
        self.person = person
        self.messages: list[nio.RoomMessageText] = []
        self.members: list[nio.RoomMemberEvent] = []
        self.redacted: list[str] = []
        self.left: list[str] = []
        client = person.client
        client.add_event_callback(lambda room, event: self.messages.append(event), nio.RoomMessageText)
        client.add_event_callback(lambda room, event: self.members.append(event), nio.RoomMemberEvent)
        client.add_event_callback(lambda room, event: self.redacted.append(event.redacts), nio.RedactionEvent)
        client.add_response_callback(self.synced, nio.SyncResponse)

    async def synced(self, response: nio.SyncResponse) -> None:
        self.left += response.rooms.leave

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.messages]

    @property
    def event_ids(self) -> list[str]:
        return [message.event_id for message in self.messages]

    def room(self, room_id: str) -> nio.MatrixRoom:
        return self.person.client.rooms[room_id]


@asynccontextmanager
async def listening(*people: Person):
    """Runs everyone's sync loop; a loop that ended by itself fails the test."""
    listeners = [Listener(person) for person in people]
    loops = []
    for person in people:
        expect(await person.client.sync(), nio.SyncResponse)
        # A slow listener is told of all that it missed, not only of the last ten.
        whole = {"room": {"timeline": {"limit": 200}}}
        loops.append(asyncio.create_task(person.client.sync_forever(timeout=3_000, sync_filter=whole)))
    yield listeners
    assert not [loop for loop in loops if loop.done()]
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


@pytest.fixture
async def pair(own_server):
    """Two people on a server that the test may kill."""
    alice, bob = await Person.register(own_server, "alice"), await Person.register(own_server, "bob")
    yield alice, bob
    await alice.close()
    await bob.close()


async def test_two_people_talk(pair):
    alice, bob = pair
    async with listening(alice, bob) as (at_alice, at_bob):
        room = await alice.create_room(preset=nio.RoomPreset.private_chat, name="Tea")
        expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
        await until(lambda: room in bob.client.invited_rooms)
        assert bob.client.invited_rooms[room].name == "Tea"
        await bob.join(room)
        await until(lambda: room in bob.client.rooms)

        await alice.say(room, "Have some wine")
        await until(lambda: at_bob.bodies == ["Have some wine"])
        slip = await bob.say(room, "I don't see any wine")
        await until(lambda: at_alice.bodies == ["Have some wine", "I don't see any wine"])
        assert at_bob.event_ids == at_alice.event_ids

        expect(await bob.client.set_displayname("March Hare"), nio.ProfileSetDisplayNameResponse)
        await until(lambda: at_alice.room(room).user_name(bob.user_id) == "March Hare")
        await alice.put_state(room, "m.room.topic", {"topic": "There isn't any"})
        await until(lambda: at_bob.room(room).topic == "There isn't any")
        expect(await bob.client.room_redact(room, slip), nio.RoomRedactResponse)
        await until(lambda: slip in at_alice.redacted)

        expect(await alice.client.room_kick(room, bob.user_id, "uncivil"), nio.RoomKickResponse)
        await until(lambda: at_bob.left == [room])
        expect(await alice.client.room_ban(room, bob.user_id), nio.RoomBanResponse)
        await until(lambda: [event.membership for event in at_alice.members][-2:] == ["leave", "ban"])
        expect(await alice.client.room_unban(room, bob.user_id), nio.RoomUnbanResponse)
        expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
        await until(lambda: room in bob.client.invited_rooms)
        await bob.join(room)
        await bob.say(room, "It wasn't very civil of you")
        await until(lambda: at_alice.bodies[-1] == "It wasn't very civil of you")

        told = len(at_bob.left)
        expect(await bob.client.room_leave(room), nio.RoomLeaveResponse)
        await until(lambda: at_bob.left[told:] == [room])
        expect(await bob.client.room_forget(room), nio.RoomForgetResponse)


@pytest.mark.timeout(240)
async def test_nothing_is_lost_when_the_server_restarts_and_crashes(pair, own_server):
    alice, bob = pair
    room = await alice.create_room(bob)
    acknowledged: list[str] = []

    async def talk(person: Person, count: int):
        for n in range(count):
            acknowledged.append(await person.say(room, f"{person.localpart} {n}"))
            await asyncio.sleep(0.01)

    async def interrupt(end):
        for goal in (10, 50, 90):
            await until(lambda: len(acknowledged) >= goal, 60)
            await asyncio.to_thread(end)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(own_server.start)

    for end in (own_server.stop, own_server.kill):
        acknowledged.clear()
        async with listening(alice, bob) as heard:
            await asyncio.gather(talk(alice, 60), talk(bob, 60), interrupt(end))
            assert len(set(acknowledged)) == 120
            for listener in heard:
                await until(lambda listener=listener: set(acknowledged) <= set(listener.event_ids), 60)
        assert heard[0].event_ids == heard[1].event_ids
        assert sorted(heard[0].event_ids) == sorted(acknowledged)

        history, start = [], None
        while len(history) < 120:
            page = expect(await bob.client.room_messages(room, start, limit=50), nio.RoomMessagesResponse)
            history += [event.event_id for event in page.chunk if isinstance(event, nio.RoomMessageText)]
            start = page.end
        assert history[:120] == heard[0].event_ids[::-1]


async def test_what_was_acknowledged_is_there_after_a_crash(pair, own_server):
    alice, bob = pair
    room = await alice.create_room(bob, name="Before")
    bob_token = (await bob.get("/sync", timeout=0))["next_batch"]
    sent = await alice.say(room, "acknowledged", "txn")
    await alice.put_state(room, "m.room.name", {"name": "After"})
    expect(await bob.client.set_displayname("Bobby"), nio.ProfileSetDisplayNameResponse)
    other = await alice.create_room()
    expect(await alice.client.room_invite(other, bob.user_id), nio.RoomInviteResponse)
    own_server.kill()
    own_server.start()

    assert await alice.say(room, "acknowledged", "txn") == sent
    assert (await bob.state(room, "m.room.name"))["name"] == "After"
    expect(await bob.client.get_displayname(), nio.ProfileGetDisplayNameResponse)
    await bob.join(other)
    assert set(await bob.joined_rooms()) == {room, other}
    missed = await bob.get("/sync", since=bob_token, timeout=0)
    events = missed["rooms"]["join"][room]["timeline"]["events"]
    assert [e["event_id"] for e in events if e["type"] == "m.room.message"] == [sent]
    page = await bob.get(f"/rooms/{part(room)}/messages", dir="b", limit=100)
    assert [e["event_id"] for e in page["chunk"] if e["type"] == "m.room.message"] == [sent]
