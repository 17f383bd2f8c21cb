"""Upgrades of rooms."""

import nio
import pytest
from person import part


@pytest.mark.parametrize(("old", "new"), [("10", "12"), ("11", "11"), ("12", "11"), ("12", "12")])
async def test_an_upgrade_takes_the_room_along(alice, bob, old, new):
    alias = f"move-{alice.localpart}-{old}-{new}"
    state = {
        "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2"},
        "m.room.history_visibility": {"history_visibility": "invited"},
        "m.room.guest_access": {"guest_access": "forbidden"},
        "m.room.server_acl": {"allow": ["*"], "deny": ["evil.example"], "allow_ip_literals": True},
        "m.room.avatar": {"url": "mxc://example.org/tea"},
    }
    room = await alice.create_room(
        bob,
        name="The croquet ground",
        topic="Flamingos",
        alias=alias,
        room_version=old,
        power_level_override={"users": {bob.user_id: 20} | ({} if old == "12" else {alice.user_id: 100})},
        initial_state=[{"type": kind, "state_key": "", "content": content} for kind, content in state.items()],
    )
    refused = await bob.call("POST", f"/rooms/{part(room)}/upgrade", {"new_version": new})
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    unknown = await alice.call("POST", f"/rooms/{part(room)}/upgrade", {"new_version": "none"})
    assert (unknown.status, unknown.errcode) == (400, "M_UNSUPPORTED_ROOM_VERSION")

    made = await alice.do("POST", f"/rooms/{part(room)}/upgrade", {"new_version": new})
    replacement = made["replacement_room"]
    assert (await alice.state(room, "m.room.tombstone"))["replacement_room"] == replacement
    create = await alice.state(replacement, "m.room.create")
    assert create["room_version"] == new and create["predecessor"]["room_id"] == room
    for kind, content in state.items():
        assert await alice.state(replacement, kind) == content
    assert (await alice.state(replacement, "m.room.name"))["name"] == "The croquet ground"
    assert (await alice.state(replacement, "m.room.topic"))["topic"] == "Flamingos"
    levels = await alice.state(replacement, "m.room.power_levels")
    assert levels["users"][bob.user_id] == 20
    assert alice.user_id not in levels["users"] or new != "12"
    found = await bob.client.room_resolve_alias(f"#{alias}:{alice.server.name}")
    assert isinstance(found, nio.RoomResolveAliasResponse) and found.room_id == replacement
    # Who has no power may not speak in the old room any more.
    sent = await bob.client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "still here"})
    assert isinstance(sent, nio.RoomSendError)
    assert replacement in await alice.joined_rooms() and replacement not in await bob.joined_rooms()
