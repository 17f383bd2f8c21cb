"""Membership: invite, join, knock, leave, kick, ban, forget, and who is where."""

import asyncio

import nio
import pytest
from person import expect, part


async def test_a_private_room_needs_an_invite(alice, bob):
    room = await alice.create_room()
    refused = expect(await bob.client.join(room), nio.JoinError)
    assert refused.status_code == "M_FORBIDDEN"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    assert room not in await bob.joined_rooms()
    await bob.join(room)
    await bob.join(room)
    assert room in await bob.joined_rooms()
    again = await alice.client.room_invite(room, bob.user_id)
    assert expect(again, nio.RoomInviteError).status_code == "M_FORBIDDEN"


async def test_an_invite_is_declined_or_withdrawn(alice, bob):
    room = await alice.create_room()
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    expect(await bob.client.room_leave(room), nio.RoomLeaveResponse)
    assert await alice.membership(room, bob) == "leave"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    expect(await alice.client.room_kick(room, bob.user_id, "a mistake"), nio.RoomKickResponse)
    assert expect(await bob.client.join(room), nio.JoinError).status_code == "M_FORBIDDEN"


async def test_members_of_a_room(alice, bob, new_person):
    carol = await new_person()
    room = await alice.create_room(bob, carol)
    expect(await carol.client.room_leave(room), nio.RoomLeaveResponse)
    expect(await alice.client.room_invite(room, carol.user_id), nio.RoomInviteResponse)

    joined = expect(await alice.client.joined_members(room), nio.JoinedMembersResponse)
    assert {member.user_id for member in joined.members} == {alice.user_id, bob.user_id}

    async def members(**query):
        chunk = (await bob.get(f"/rooms/{part(room)}/members", **query))["chunk"]
        return {event["state_key"]: event["content"]["membership"] for event in chunk}

    everyone = {alice.user_id: "join", bob.user_id: "join", carol.user_id: "invite"}
    assert await members() == everyone
    assert await members(membership="join") == {alice.user_id: "join", bob.user_id: "join"}
    assert await members(not_membership="join") == {carol.user_id: "invite"}


async def test_kick_and_ban_need_power(alice, bob, new_person):
    carol = await new_person()
    room = await alice.create_room(bob, carol)
    kick = await bob.client.room_kick(room, carol.user_id)
    assert expect(kick, nio.RoomKickError).status_code == "M_FORBIDDEN"
    ban = await bob.client.room_ban(room, carol.user_id)
    assert expect(ban, nio.RoomBanError).status_code == "M_FORBIDDEN"
    assert await alice.membership(room, carol) == "join"


async def test_kick_lets_the_invited_return_and_ban_does_not(alice, bob):
    room = await alice.create_room(bob)
    expect(await alice.client.room_kick(room, bob.user_id, "calm down"), nio.RoomKickResponse)
    member = await alice.state(room, "m.room.member", bob.user_id)
    assert (member["membership"], member["reason"]) == ("leave", "calm down")
    assert room not in await bob.joined_rooms()
    refused = await bob.client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "but"})
    assert expect(refused, nio.RoomSendError).status_code == "M_FORBIDDEN"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await bob.join(room)

    expect(await alice.client.room_ban(room, bob.user_id), nio.RoomBanResponse)
    assert await alice.membership(room, bob) == "ban"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteError)
    expect(await alice.client.room_unban(room, bob.user_id), nio.RoomUnbanResponse)
    assert await alice.membership(room, bob) == "leave"
    assert expect(await bob.client.join(room), nio.JoinError).status_code == "M_FORBIDDEN"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await bob.join(room)


async def test_forget(alice, bob):
    room = await alice.create_room(bob)
    early = await bob.call("POST", f"/rooms/{part(room)}/forget", {})
    assert early.status == 400, early
    expect(await bob.client.room_leave(room), nio.RoomLeaveResponse)
    await bob.get(f"/rooms/{part(room)}/messages", dir="b")
    expect(await bob.client.room_forget(room), nio.RoomForgetResponse)
    forgotten = await bob.call("GET", f"/rooms/{part(room)}/messages", dir="b")
    assert forgotten.status in (403, 404), forgotten


async def test_knock(alice, bob, new_person):
    carol = await new_person()
    room = await alice.create_room()
    refused = await bob.client.room_knock(room)
    assert expect(refused, nio.RoomKnockError).status_code == "M_FORBIDDEN"
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "knock"})

    for person in (bob, carol):
        expect(await person.client.room_knock(room, "let me in"), nio.RoomKnockResponse)
        member = await alice.state(room, "m.room.member", person.user_id)
        assert (member["membership"], member["reason"]) == ("knock", "let me in")
        assert expect(await person.client.join(room), nio.JoinError).status_code == "M_FORBIDDEN"
    expect(await alice.client.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await bob.join(room)
    expect(await alice.client.room_kick(room, carol.user_id), nio.RoomKickResponse)
    assert await alice.membership(room, carol) == "leave"


async def test_a_profile_is_shown_in_every_room(alice, bob):
    expect(await alice.client.set_displayname("Alice"), nio.ProfileSetDisplayNameResponse)
    rooms = [await alice.create_room(bob) for _ in range(2)]
    for room in rooms:
        assert (await bob.state(room, "m.room.member", alice.user_id))["displayname"] == "Alice"
    expect(await alice.client.set_displayname("Alice Liddell"), nio.ProfileSetDisplayNameResponse)
    expect(await alice.client.set_avatar("mxc://localhost/rabbit"), nio.ProfileSetAvatarResponse)
    for room in rooms:
        await eventually(
            lambda room=room: bob.state(room, "m.room.member", alice.user_id),
            {"membership": "join", "displayname": "Alice Liddell", "avatar_url": "mxc://localhost/rabbit"},
        )


@pytest.mark.parametrize("membership", ["invite", "join", "leave", "ban"])
async def test_membership_through_state(alice, bob, membership):
    room = await alice.create_room()
    path = f"/rooms/{part(room)}/state/m.room.member/{part(bob.user_id)}"
    put = await alice.call("PUT", path, {"membership": membership})
    assert put.status == (403 if membership == "join" else 200), put


async def test_an_invite_names_a_user(alice):
    room = await alice.create_room()
    wrong = await alice.call("POST", f"/rooms/{part(room)}/invite", {"user_id": "bob"})
    assert wrong.status == 400, wrong
    missing = await alice.call("POST", f"/rooms/{part(room)}/invite", {})
    assert missing.status == 400, missing


async def eventually(read, expected: dict, timeout_s: float = 10):
    """Waits until what is read holds `expected`: a profile reaches rooms in the background."""
    async with asyncio.timeout(timeout_s):
        while not expected.items() <= (await read()).items():
            await asyncio.sleep(0.05)
