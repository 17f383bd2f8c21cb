"""Reading a room: messages both ways, context, filters, lazy-loaded members, and what one may see."""

import json

import nio
import pytest
from person import expect, part


async def texts(person, room, **query) -> list[str]:
    """The texts of one page of messages, newest first."""
    page = await person.get(f"/rooms/{part(room)}/messages", **{"dir": "b", "limit": 100, **query})
    return [event["content"]["body"] for event in page["chunk"] if event["type"] == "m.room.message"]


async def test_pages_of_messages_join_up_in_both_directions(alice, bob):
    room = await alice.create_room(bob)
    sent = [await (alice, bob)[n % 2].say(room, f"message {n}") for n in range(23)]

    async def walk(direction, **options):
        events, token = [], options.pop("start", None)
        while True:
            page = expect(
                await bob.client.room_messages(room, token, direction=direction, limit=5, **options),
                nio.RoomMessagesResponse,
            )
            assert len(page.chunk) <= 5
            events += [event.event_id for event in page.chunk]
            if not page.end or not page.chunk:
                return events
            token = page.end

    back = await walk(nio.MessageDirection.back)
    forward = await walk(nio.MessageDirection.front)
    assert back[:23] == sent[::-1]
    assert forward == back[::-1]
    assert len(set(back)) == len(back)


async def test_a_page_reads_back_the_way_it_came(alice):
    room = await alice.create_room()
    for n in range(10):
        await alice.say(room, f"message {n}")
    path = f"/rooms/{part(room)}/messages"
    first = await alice.get(path, dir="b", limit=4)
    second = await alice.get(path, dir="b", limit=4, **{"from": first["end"]})
    back = await alice.get(path, dir="f", limit=4, **{"from": second["end"]})
    assert [e["event_id"] for e in back["chunk"]] == [e["event_id"] for e in second["chunk"]][::-1]
    bounded = await alice.get(path, dir="b", limit=100, to=second["end"])
    assert [e["event_id"] for e in bounded["chunk"]] == [
        e["event_id"] for e in first["chunk"] + second["chunk"]
    ]


async def test_messages_by_filter(alice, bob):
    room = await alice.create_room(bob)
    await alice.say(room, "from Alice")
    await bob.say(room, "from Bob")
    await bob.client.room_send(room, "org.example.other", {"body": "of another type"})

    async def chunk(**filter):
        page = await alice.get(f"/rooms/{part(room)}/messages", dir="b", limit=100, filter=json.dumps(filter))
        return page["chunk"]

    assert {e["sender"] for e in await chunk(senders=[bob.user_id])} == {bob.user_id}
    assert bob.user_id not in {e["sender"] for e in await chunk(not_senders=[bob.user_id])}
    assert {e["type"] for e in await chunk(types=["org.example.*"])} == {"org.example.other"}
    assert not {e["type"] for e in await chunk(not_types=["m.room.*"])} - {"org.example.other"}


async def test_messages_with_lazy_loaded_members(alice, bob, new_person):
    silent = await new_person()
    room = await alice.create_room(bob, silent)
    await alice.say(room, "from Alice")
    await bob.say(room, "from Bob")
    lazy = json.dumps({"lazy_load_members": True})
    page = await silent.get(f"/rooms/{part(room)}/messages", dir="b", limit=2, filter=lazy)
    members = [e["state_key"] for e in page["state"] if e["type"] == "m.room.member"]
    assert sorted(members) == sorted([alice.user_id, bob.user_id])


async def test_context(alice, bob):
    room = await alice.create_room(bob)
    sent = [await alice.say(room, f"message {n}") for n in range(9)]
    context = expect(await bob.client.room_context(room, sent[4], limit=4), nio.RoomContextResponse)
    assert context.event.event_id == sent[4]
    assert [event.event_id for event in context.events_before] == [sent[3], sent[2]]
    assert [event.event_id for event in context.events_after] == [sent[5], sent[6]]

    path = f"/rooms/{part(room)}/messages"
    earlier = await bob.get(path, dir="b", limit=2, **{"from": context.start})
    later = await bob.get(path, dir="f", limit=2, **{"from": context.end})
    assert [e["event_id"] for e in earlier["chunk"]] == [sent[1], sent[0]]
    assert [e["event_id"] for e in later["chunk"]] == [sent[7], sent[8]]


async def test_context_shows_the_state_at_the_event(alice):
    room = await alice.create_room(name="Before")
    event = await alice.say(room, "in the middle")
    await alice.put_state(room, "m.room.name", {"name": "After"})
    context = await alice.get(f"/rooms/{part(room)}/context/{part(event)}", limit=0)
    names = [e["content"]["name"] for e in context["state"] if e["type"] == "m.room.name"]
    assert names == ["Before"]
    assert context.get("events_before", []) == context.get("events_after", []) == []


async def test_one_event(alice, bob, new_person):
    room = await alice.create_room(bob)
    sent = await alice.say(room, "a message")
    got = expect(await bob.client.room_get_event(room, sent), nio.RoomGetEventResponse)
    assert (got.event.sender, got.event.body) == (alice.user_id, "a message")

    stranger = await new_person()
    other_room = await stranger.create_room()
    for person, where, event in ((stranger, room, sent), (stranger, other_room, sent), (bob, room, "$nothing")):
        refused = await person.call("GET", f"/rooms/{part(where)}/event/{part(event)}")
        assert refused.status in (403, 404), refused


async def test_who_left_reads_the_room_as_it_was(alice, bob):
    room = await alice.create_room(bob, name="While Bob was here")
    await alice.say(room, "before")
    expect(await bob.client.room_leave(room), nio.RoomLeaveResponse)
    after = await alice.say(room, "after")
    await alice.put_state(room, "m.room.name", {"name": "Without Bob"})

    assert (await bob.state(room, "m.room.name"))["name"] == "While Bob was here"
    listed = expect(await bob.client.room_get_state(room), nio.RoomGetStateResponse)
    assert [e["content"]["name"] for e in listed.events if e["type"] == "m.room.name"] == ["While Bob was here"]
    assert await texts(bob, room) == ["before"]
    for path in (f"event/{part(after)}", f"context/{part(after)}"):
        hidden = await bob.call("GET", f"/rooms/{part(room)}/{path}")
        assert hidden.status in (403, 404), hidden


@pytest.mark.parametrize(
    ("visibility", "seen"),
    [
        ("joined", ["joined"]),
        ("invited", ["joined", "invited"]),
        ("shared", ["joined", "invited", "earlier"]),
        ("world_readable", ["joined", "invited", "earlier"]),
    ],
)
async def test_history_visibility(alice, bob, new_person, visibility, seen):
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room = await alice.create_room(initial_state=[state])
    earlier = await alice.say(room, "earlier")
    stranger = await new_person()
    outside = await stranger.call("GET", f"/rooms/{part(room)}/messages", dir="b")
    assert outside.status == (200 if visibility == "world_readable" else 403)

    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await alice.say(room, "invited")
    await bob.join(room)
    await alice.say(room, "joined")
    assert await texts(bob, room) == seen
    one = await bob.call("GET", f"/rooms/{part(room)}/event/{part(earlier)}")
    assert one.status == 200 if "earlier" in seen else one.status in (403, 404)


async def test_visibility_holds_from_when_it_was_set(alice, bob):
    room = await alice.create_room()
    await alice.say(room, "shared")
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    await alice.say(room, "joined")
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await bob.join(room)
    assert await texts(bob, room) == ["shared"]
