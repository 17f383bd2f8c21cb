"""Sync: what a client is told, when, and only once."""

import asyncio
import json

import nio
from person import expect, part


async def sync(person, since=None, **query) -> dict:
    """One plain sync; with `since` it returns at once unless a timeout is asked for."""
    if since:
        query["since"] = since
    if isinstance(query.get("filter"), dict):
        query["filter"] = json.dumps(query["filter"])
    return await person.get("/sync", **{"timeout": 0, **query})


def joined(answer: dict, room: str) -> dict:
    return answer["rooms"]["join"][room]


def ids(section: dict) -> list[str]:
    return [event["event_id"] for event in section["timeline"]["events"]]


def texts(section: dict) -> list[str]:
    timeline = section["timeline"]["events"]
    return [event["content"].get("body") for event in timeline if event["type"] == "m.room.message"]


def rooms(answer: dict, section: str) -> dict:
    return answer.get("rooms", {}).get(section, {})


async def test_the_first_sync_has_everything_and_the_next_nothing(alice, bob):
    room = await alice.create_room(bob, name="A room")
    await alice.say(room, "hello")
    first = await sync(bob)
    section = joined(first, room)
    assert texts(section) == ["hello"]
    known = section["state"]["events"] + section["timeline"]["events"]
    names = [event["content"]["name"] for event in known if event["type"] == "m.room.name"]
    assert names == ["A room"]

    second = await sync(bob, first["next_batch"])
    assert not rooms(second, "join")
    assert (await sync(bob, second["next_batch"]))["next_batch"]


async def test_nio_knows_the_room_after_its_sync(alice, bob):
    room = await alice.create_room(bob, name="The garden", topic="Roses")
    expect(await bob.client.sync(), nio.SyncResponse)
    known = bob.client.rooms[room]
    assert (known.name, known.topic) == ("The garden", "Roses")
    assert set(known.users) == {alice.user_id, bob.user_id}
    assert known.power_levels.can_user_redact(alice.user_id) or known.room_version == "12"


async def test_an_increment_has_what_is_new(alice, bob):
    room = await alice.create_room(bob)
    quiet = await alice.create_room(bob)
    token = (await sync(bob))["next_batch"]
    await alice.say(room, "one")
    await alice.put_state(room, "m.room.topic", {"topic": "new"})
    await alice.say(room, "two")
    answer = await sync(bob, token)
    assert quiet not in rooms(answer, "join")
    section = joined(answer, room)
    assert [event["type"] for event in section["timeline"]["events"]] == [
        "m.room.message",
        "m.room.topic",
        "m.room.message",
    ]
    assert section["timeline"].get("limited", False) is False
    assert not section.get("state", {}).get("events")
    again = joined(await sync(bob, token), room)
    assert ids(again) == ids(section)


async def test_a_long_poll_returns_when_something_happens(alice, bob):
    room = await alice.create_room(bob)
    token = (await sync(bob))["next_batch"]
    poll = asyncio.create_task(sync(bob, token, timeout=20_000))
    await asyncio.sleep(0.5)
    assert not poll.done()
    await alice.say(room, "wake up")
    answer = await asyncio.wait_for(poll, 5)
    assert texts(joined(answer, room)) == ["wake up"]


async def test_a_long_poll_returns_empty_after_its_time(bob):
    token = (await sync(bob))["next_batch"]
    loop = asyncio.get_running_loop()
    before = loop.time()
    answer = await sync(bob, token, timeout=700)
    assert 0.6 < loop.time() - before < 5
    assert not rooms(answer, "join") and answer["next_batch"]


async def test_a_gap_is_limited_and_filled_by_messages(alice, bob):
    room = await alice.create_room(bob)
    token = (await sync(bob))["next_batch"]
    sent = [await alice.say(room, f"message {n}") for n in range(30)]
    topic = await alice.put_state(room, "m.room.topic", {"topic": "within the gap"})
    sent += [await alice.say(room, f"later {n}") for n in range(10)]
    section = joined(await sync(bob, token, filter={"room": {"timeline": {"limit": 5}}}), room)
    assert section["timeline"]["limited"] is True
    assert ids(section) == sent[-5:]
    assert [event["event_id"] for event in section["state"]["events"]] == [topic]

    missing = await bob.get(
        f"/rooms/{part(room)}/messages",
        dir="b",
        limit=100,
        **{"from": section["timeline"]["prev_batch"], "to": token},
    )
    filled = [event["event_id"] for event in missing["chunk"] if event["type"] == "m.room.message"]
    assert filled == sent[:-5][::-1]


async def test_an_own_event_carries_its_transaction_id(alice, bob):
    room = await alice.create_room(bob)
    other = await alice.another_login()
    tokens = [(await sync(person))["next_batch"] for person in (alice, other, bob)]
    await alice.say(room, "mine", "my-transaction")
    seen = []
    for person, token in zip((alice, other, bob), tokens):
        event = joined(await sync(person, token), room)["timeline"]["events"][0]
        seen.append(event.get("unsigned", {}).get("transaction_id"))
    assert seen == ["my-transaction", None, None]
    await other.close()


async def test_an_invite_comes_with_stripped_state_and_goes_when_joined(alice, bob):
    token = (await sync(bob))["next_batch"]
    room = await alice.create_room(name="Come in")
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    invited = await sync(bob, token)
    stripped = rooms(invited, "invite")[room]["invite_state"]["events"]
    by_type = {(event["type"], event["state_key"]): event["content"] for event in stripped}
    assert by_type["m.room.name", ""] == {"name": "Come in"}
    assert by_type["m.room.member", bob.user_id]["membership"] == "invite"
    assert ("m.room.create", "") in by_type
    assert room not in rooms(invited, "join")

    await bob.join(room)
    answer = await sync(bob, invited["next_batch"])
    assert room not in rooms(answer, "invite")
    known = joined(answer, room)["state"]["events"] + joined(answer, room)["timeline"]["events"]
    types = {event["type"] for event in known}
    assert {"m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.name"} <= types


async def test_leave_kick_and_decline_are_told_once(alice, bob):
    left, kicked = await alice.create_room(bob), await alice.create_room(bob)
    declined = await alice.create_room()
    expect(await alice.client.room_invite(declined, bob.user_id), nio.RoomInviteResponse)
    token = (await sync(bob))["next_batch"]
    await alice.say(left, "before")
    expect(await bob.client.room_leave(left), nio.RoomLeaveResponse)
    await alice.say(left, "after")
    expect(await alice.client.room_kick(kicked, bob.user_id), nio.RoomKickResponse)
    expect(await bob.client.room_leave(declined), nio.RoomLeaveResponse)

    answer = await sync(bob, token)
    assert {left, kicked, declined} <= rooms(answer, "leave").keys()
    assert not {left, kicked, declined} & rooms(answer, "join").keys()
    assert declined not in rooms(answer, "invite")
    assert texts(rooms(answer, "leave")[left]) == ["before"]
    assert not rooms(await sync(bob, answer["next_batch"]), "leave")
    assert not rooms(await sync(bob), "leave")
    with_left = await sync(bob, filter={"room": {"include_leave": True}})
    assert left in rooms(with_left, "leave")


async def test_a_knock_is_shown_to_who_knocked(alice, bob):
    room = await alice.create_room(name="Closed")
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "knock"})
    token = (await sync(bob))["next_batch"]
    expect(await bob.client.room_knock(room), nio.RoomKnockResponse)
    answer = await sync(bob, token)
    stripped = rooms(answer, "knock")[room]["knock_state"]["events"]
    own = [event for event in stripped if event.get("state_key") == bob.user_id]
    assert [event["content"]["membership"] for event in own] == ["knock"]
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await bob.join(room)
    assert room in rooms(await sync(bob, answer["next_batch"]), "join")


async def test_members_are_loaded_lazily(alice, bob, new_person):
    quiet, late = await new_person(), await new_person()
    room = await alice.create_room(bob, quiet, late, name="A name, so that there are no heroes")
    await alice.say(room, "first")
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}

    def members(section):
        return {e["state_key"] for e in section["state"]["events"] if e["type"] == "m.room.member"}

    first = await sync(bob, filter=lazy)
    section = joined(first, room)
    assert {alice.user_id} <= members(section) <= {alice.user_id, bob.user_id}
    assert section["summary"]["m.joined_member_count"] == 4

    await late.say(room, "here I am")
    second = await sync(bob, first["next_batch"], filter=lazy)
    assert members(joined(second, room)) == {late.user_id}
    await late.say(room, "again")
    third = await sync(bob, second["next_batch"], filter=lazy)
    assert members(joined(third, room)) <= {late.user_id}


async def test_a_stored_filter_is_applied(alice, bob):
    room = await alice.create_room(bob)
    uploaded = await bob.client.upload_filter(room={"timeline": {"types": ["org.example.*"], "limit": 3}})
    filter_id = expect(uploaded, nio.UploadFilterResponse).filter_id
    stored = await bob.get(f"/user/{part(bob.user_id)}/filter/{part(filter_id)}")
    assert stored["room"]["timeline"]["types"] == ["org.example.*"]
    foreign = await alice.call("GET", f"/user/{part(bob.user_id)}/filter/{part(filter_id)}")
    assert foreign.status == 403, foreign

    await alice.say(room, "of the usual type")
    await alice.client.room_send(room, "org.example.ping", {"body": "of the filter's type"})
    events = joined(await sync(bob, filter=filter_id), room)["timeline"]["events"]
    assert [event["type"] for event in events] == ["org.example.ping"]


async def test_a_filter_chooses_rooms(alice, bob):
    wanted, other = await alice.create_room(bob), await alice.create_room(bob)
    only = rooms(await sync(bob, filter={"room": {"rooms": [wanted]}}), "join")
    assert only.keys() == {wanted}
    assert other in rooms(await sync(bob), "join")


async def test_state_after_is_the_state_at_the_end_of_the_timeline(alice, bob):
    room = await alice.create_room(bob)
    token = (await sync(bob))["next_batch"]
    await alice.put_state(room, "m.room.topic", {"topic": "one"})
    last = await alice.put_state(room, "m.room.topic", {"topic": "two"})
    asked = {"use_state_after": "true", "org.matrix.msc4222.use_state_after": "true"}
    section = joined(await sync(bob, token, **asked), room)
    assert not section.get("state", {}).get("events")
    after = section.get("state_after") or section["org.matrix.msc4222.state_after"]
    assert [event["event_id"] for event in after["events"]] == [last]


async def test_full_state_and_broken_parameters(alice, bob):
    room = await alice.create_room(bob, name="Everything again")
    token = (await sync(bob))["next_batch"]
    section = joined(await sync(bob, token, full_state="true"), room)
    assert "m.room.name" in {event["type"] for event in section["state"]["events"]}
    for wrong in ({"since": "nonsense"}, {"filter": "{broken"}):
        refused = await bob.call("GET", "/sync", timeout=0, **wrong)
        assert refused.status == 400, refused
