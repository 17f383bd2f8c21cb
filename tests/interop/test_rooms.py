"""Rooms: creation, aliases, state, sending and redacting."""

import nio
import pytest
from person import expect, part

VERSIONS = [str(number) for number in range(1, 13)]
PRESETS = {
    nio.RoomPreset.private_chat: ("invite", "can_join"),
    nio.RoomPreset.trusted_private_chat: ("invite", "can_join"),
    nio.RoomPreset.public_chat: ("public", "forbidden"),
}


@pytest.mark.parametrize("preset", PRESETS)
async def test_presets(alice, preset):
    room = await alice.create_room(preset=preset)
    join_rule, guest_access = PRESETS[preset]
    assert (await alice.state(room, "m.room.join_rules"))["join_rule"] == join_rule
    guests = await alice.call("GET", f"/rooms/{part(room)}/state/m.room.guest_access")
    assert guests.body.get("guest_access", "forbidden") == guest_access
    assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "shared"
    assert await alice.membership(room, alice) == "join"


@pytest.mark.parametrize("version", VERSIONS)
async def test_power_of_the_creator_by_room_version(alice, bob, version):
    room = await alice.create_room(bob, room_version=version, preset=nio.RoomPreset.trusted_private_chat)
    create = await alice.state(room, "m.room.create")
    users = (await alice.state(room, "m.room.power_levels")).get("users", {})
    assert create["room_version"] == version
    if version == "12":
        assert alice.user_id not in users and bob.user_id not in users
        assert create["additional_creators"] == [bob.user_id]
        assert ":" not in room
    else:
        assert users == {alice.user_id: 100, bob.user_id: 100}
        assert room.endswith(f":{alice.server.name}")
    await bob.put_state(room, "m.room.topic", {"topic": "Bob may do this too"})


async def test_an_unsupported_room_version_is_refused(alice):
    refused = await alice.call("POST", "/createRoom", {"room_version": "no-such-version"})
    assert (refused.status, refused.errcode) == (400, "M_UNSUPPORTED_ROOM_VERSION")


async def test_everything_that_can_be_asked_for_at_creation(alice, bob):
    alias = f"#library-{alice.localpart}:{alice.server.name}"
    room = await alice.create_room(
        bob,
        name="The library",
        topic="Books",
        is_direct=True,
        federate=False,
        alias=f"library-{alice.localpart}",
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "invited"}},
            {"type": "org.example.shelf", "state_key": "fiction", "content": {"books": 12}},
        ],
        power_level_override={"events": {"m.room.topic": 0}},
    )
    assert (await alice.state(room, "m.room.name"))["name"] == "The library"
    assert (await alice.state(room, "m.room.topic"))["topic"] == "Books"
    assert (await alice.state(room, "m.room.create"))["m.federate"] is False
    assert (await alice.state(room, "m.room.canonical_alias"))["alias"] == alias
    assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "invited"
    assert await alice.state(room, "org.example.shelf", "fiction") == {"books": 12}
    await bob.put_state(room, "m.room.topic", {"topic": "Anyone may set it"})
    name = await bob.client.room_put_state(room, "m.room.name", {"name": "Only Alice may"})
    assert expect(name, nio.RoomPutStateError).status_code == "M_FORBIDDEN"

    members = (await alice.get(f"/rooms/{part(room)}/members"))["chunk"]
    invites = [event for event in members if event["state_key"] == bob.user_id]
    assert [event["content"]["membership"] for event in invites] == ["join"]


async def test_a_direct_invite_says_so(alice, bob):
    made = expect(
        await alice.client.room_create(is_direct=True, invite=[bob.user_id]), nio.RoomCreateResponse
    )
    assert (await alice.state(made.room_id, "m.room.member", bob.user_id))["is_direct"] is True


async def test_aliases(alice, bob):
    room = await alice.create_room(preset=nio.RoomPreset.public_chat)
    alias = f"#alias-{alice.localpart}:{alice.server.name}"
    expect(await alice.client.room_put_alias(alias, room), nio.RoomPutAliasResponse)
    again = await alice.call("PUT", f"/directory/room/{part(alias)}", {"room_id": room})
    assert again.status == 409, again
    found = expect(await bob.client.room_resolve_alias(alias), nio.RoomResolveAliasResponse)
    assert (found.room_id, found.servers) == (room, [alice.server.name])
    assert (await alice.get(f"/rooms/{part(room)}/aliases"))["aliases"] == [alias]

    joined = expect(await bob.client.join(alias), nio.JoinResponse)
    assert joined.room_id == room
    other = await bob.call("DELETE", f"/directory/room/{part(alias)}")
    assert (other.status, other.errcode) == (403, "M_FORBIDDEN")
    expect(await alice.client.room_delete_alias(alias), nio.RoomDeleteAliasResponse)
    gone = await bob.call("GET", f"/directory/room/{part(alias)}")
    assert (gone.status, gone.errcode) == (404, "M_NOT_FOUND")


async def test_state_is_put_replaced_and_listed(alice, bob):
    room = await alice.create_room(bob)
    await alice.put_state(room, "m.room.topic", {"topic": "First"})
    topic = await alice.put_state(room, "m.room.topic", {"topic": "Second"})
    keyed = await alice.put_state(room, "org.example.desk", {"tidy": False}, "left corner")

    assert await bob.state(room, "m.room.topic") == {"topic": "Second"}
    assert await bob.state(room, "org.example.desk", "left corner") == {"tidy": False}
    absent = await bob.call("GET", f"/rooms/{part(room)}/state/org.example.desk/other")
    assert (absent.status, absent.errcode) == (404, "M_NOT_FOUND")

    listed = await bob.client.room_get_state(room)
    events = {(e["type"], e["state_key"]): e for e in expect(listed, nio.RoomGetStateResponse).events}
    assert events["m.room.topic", ""]["event_id"] == topic
    assert events["org.example.desk", "left corner"]["event_id"] == keyed
    assert events["m.room.create", ""]["sender"] == alice.user_id
    assert len(events) == len(listed.events)


async def test_state_is_for_those_with_power(alice, bob, new_person):
    room = await alice.create_room(bob)
    for event_type, key in (("m.room.name", ""), ("org.example.owned", alice.user_id)):
        refused = await bob.call("PUT", f"/rooms/{part(room)}/state/{event_type}/{part(key)}", {"name": "no"})
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")

    levels = await alice.state(room, "m.room.power_levels")
    levels.setdefault("users", {})[bob.user_id] = 50
    await alice.put_state(room, "m.room.power_levels", levels)
    await bob.put_state(room, "m.room.name", {"name": "Now he may"})
    levels["users"][bob.user_id] = 100
    promoted = await bob.client.room_put_state(room, "m.room.power_levels", levels)
    assert expect(promoted, nio.RoomPutStateError).status_code == "M_FORBIDDEN"

    stranger = await new_person()
    outside = await stranger.call("GET", f"/rooms/{part(room)}/state")
    assert (outside.status, outside.errcode) == (403, "M_FORBIDDEN")


async def test_a_transaction_id_sends_once_a_device(alice):
    room = await alice.create_room()
    first = await alice.say(room, "once", "txn-1")
    assert await alice.say(room, "once", "txn-1") == first
    assert await alice.say(room, "twice", "txn-2") != first
    other = await alice.another_login()
    assert await other.say(room, "from elsewhere", "txn-1") != first

    redaction = expect(await alice.client.room_redact(room, first, tx_id="txn-3"), nio.RoomRedactResponse)
    again = expect(await alice.client.room_redact(room, first, tx_id="txn-3"), nio.RoomRedactResponse)
    assert again.event_id == redaction.event_id

    page = await alice.get(f"/rooms/{part(room)}/messages", dir="b", limit=100)
    texts = [e["content"].get("body") for e in page["chunk"] if e["type"] == "m.room.message"]
    assert texts == ["from elsewhere", "twice", None]
    await other.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_redaction(alice, bob, version):
    room = await alice.create_room(bob, room_version=version)
    by_alice, by_bob = await alice.say(room, "from Alice"), await bob.say(room, "from Bob")
    refused = await bob.client.room_redact(room, by_alice)
    assert expect(refused, nio.RoomRedactError).status_code == "M_FORBIDDEN"
    for person, target in ((bob, by_bob), (alice, by_alice)):
        done = expect(await person.client.room_redact(room, target, "a slip"), nio.RoomRedactResponse)
        event = await bob.get(f"/rooms/{part(room)}/event/{part(target)}")
        assert event["content"] == {}
        because = event["unsigned"]["redacted_because"]
        assert (because["event_id"], because["sender"]) == (done.event_id, person.user_id)
        assert because["content"]["reason"] == "a slip"
        redaction = await bob.get(f"/rooms/{part(room)}/event/{part(done.event_id)}")
        assert redaction["redacts"] == redaction["content"].get("redacts", target) == target


async def test_only_members_send_and_content_is_an_object(alice, bob):
    room = await alice.create_room()
    refused = await bob.client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "hello?"})
    assert expect(refused, nio.RoomSendError).status_code == "M_FORBIDDEN"
    path = f"/rooms/{part(room)}/send/m.room.message/one"
    for content in ([], "text", 5):
        wrong = await alice.call("PUT", path, content)
        assert (wrong.status, wrong.errcode) == (400, "M_BAD_JSON")
    large = await alice.call("PUT", path, {"msgtype": "m.text", "body": "x" * 70_000})
    assert (large.status, large.errcode) == (413, "M_TOO_LARGE")
