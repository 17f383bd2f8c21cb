"""Two Tayberries and a Synapse in one room: what one of them does reaches both others, whoever made the room."""

import asyncio

import pytest
from person import part, until_true
from test_federation import (  # noqa: F401
    People,
    Pool,
    agree,
    becomes,
    bodies,
    invitation,
    join,
    pool,
    sees,
    state_of,
    synced,
    via,
)

pytestmark = pytest.mark.timeout(240)

SERVERS = [("tayberry", 0), ("tayberry", 1), ("synapse", 0)]


@pytest.fixture(params=range(len(SERVERS)), ids=["made-by-tayberry", "made-by-the-other", "made-by-synapse"])
async def three(request, pool):  # noqa: F811
    """Somebody on each server, the one whose server makes the room first."""
    first = request.param
    servers = [pool.server(*which) for which in SERVERS[first:] + SERVERS[:first]]
    known = People(servers[:2])
    yield [await known.at(server) for server in servers]
    for person in known.all:
        await person.close()


async def meet(three, **options) -> str:
    """A room of the first one's that the second joins through the first, and the third through the second."""
    options = {"preset": "public_chat", **options}
    first, second, third = three
    room = (await first.do("POST", "/createRoom", options))["room_id"]
    await join(second, room, first)
    await becomes(first, room, second, "join")

    async def is_in():
        # Synapse lets nobody in before it is wholly in itself, which is after it has said that it is.
        answer = await third.call("POST", f"/join/{part(room)}", {}, **via(second))
        assert answer.status == 200 or answer.errcode == "M_NOT_FOUND", answer
        return answer.status == 200

    await until_true(is_in, 60)
    for person in (first, second):
        await becomes(person, room, third, "join")
    return room


async def all_agree(three, room: str, timeout_s: float = 60) -> None:
    async def equal():
        states = await asyncio.gather(*(state_of(person, room) for person in three))
        return states[0] == states[1] == states[2]

    await until_true(equal, timeout_s)


@pytest.mark.parametrize("version", ["6", "12"])
async def test_everybody_hears_everybody(three, version):
    room = await meet(three, room_version=version)
    for speaker in three:
        said = await speaker.say(room, f"{speaker.user_id} speaks")
        for listener in three:
            assert (await sees(listener, room, said))["content"]["body"] == f"{speaker.user_id} speaks"
    await three[0].put_state(room, "m.room.topic", {"topic": "three"})
    await all_agree(three, room)
    await three[1].do("POST", f"/rooms/{part(room)}/leave")
    for person in (three[0], three[2]):
        await becomes(person, room, three[1], "leave")
    said = await three[2].say(room, "just us")
    await sees(three[0], room, said)


async def test_an_invitation_a_redaction_and_a_kick_reach_everybody(three):
    first, second, third = three
    options = {"preset": "private_chat", "room_version": "10", "power_level_content_override": {"invite": 0}}
    room = (await first.do("POST", "/createRoom", options))["room_id"]
    # Whoever came by an invitation brings the next one.
    for host, guest, others in ((first, second, [first]), (second, third, [first, second])):
        await host.do("POST", f"/rooms/{part(room)}/invite", {"user_id": guest.user_id})
        await synced(guest, invitation(room))
        await guest.do("POST", f"/rooms/{part(room)}/join")
        for person in others:
            await becomes(person, room, guest, "join")
    said = await third.say(room, "a secret")
    for person in three:
        assert (await sees(person, room, said))["content"]["body"] == "a secret"
    await first.do("PUT", f"/rooms/{part(room)}/redact/{part(said)}/1", {"reason": "slip"})

    async def is_gone(person):
        return (await sees(person, room, said))["content"] == {}

    for person in three:
        await until_true(lambda person=person: is_gone(person), 30)
    await first.do("POST", f"/rooms/{part(room)}/kick", {"user_id": third.user_id})
    for person in (first, second):
        await becomes(person, room, third, "leave")

    async def is_out():
        return room not in (await third.get("/joined_rooms"))["joined_rooms"]

    await until_true(is_out, 30)
    assert (await third.call("POST", f"/join/{part(room)}", {}, **via(second))).status == 403


async def test_what_all_say_at_once_is_one_room_in_the_end(three):
    first, second, third = three
    room = await meet(three)
    levels = await first.state(room, "m.room.power_levels")
    levels.setdefault("users", {}).update({second.user_id: 50, third.user_id: 50})
    await first.put_state(room, "m.room.power_levels", levels)
    await all_agree(three, room)

    async def talk(person):
        for number in range(10):
            await person.say(room, f"{person.localpart} {number}")
            await person.put_state(room, "m.room.topic", {"topic": f"by {person.localpart}, {number}"})

    await asyncio.gather(*map(talk, three))
    said = {f"{person.localpart} {number}" for person in three for number in range(10)}

    async def all_said(person):
        return said <= set(await bodies(person, room))

    for person in three:
        await until_true(lambda person=person: all_said(person), 60)
    await all_agree(three, room)


async def test_who_was_away_hears_from_those_who_were_not(three):
    first, second, third = three
    room = await meet(three)
    second.server.stop()
    try:
        said = [await first.say(room, "one is away"), await third.say(room, "so it is")]
        await sees(third, room, said[0])
        await first.put_state(room, "m.room.topic", {"topic": "the absent"})
    finally:
        second.server.start()
    # Word from the third alone: the first one's has to be asked for, where it hasn't come by itself.
    said.append(await third.say(room, "are you back"))
    for event in said:
        await sees(second, room, event, 90)
    await all_agree(three, room)
