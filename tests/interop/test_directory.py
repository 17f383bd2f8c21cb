"""The directories: public rooms, and people."""

import nio
from person import part, until_true


PUBLIC = {"visibility": nio.RoomVisibility.public, "preset": nio.RoomPreset.public_chat}


async def publish(person, room: str, visibility: str = "public") -> None:
    await person.do("PUT", f"/directory/list/room/{part(room)}", {"visibility": visibility})


async def listed(person, **wanted) -> dict[str, dict]:
    """Every public room that a search finds, page by page."""
    found, since = {}, {}
    while True:
        page = await person.do("POST", "/publicRooms", {"limit": 2, **wanted, **since})
        found |= {room["room_id"]: room for room in page["chunk"]}
        if "next_batch" not in page:
            return found
        since = {"since": page["next_batch"]}


async def people(person, term: str, **wanted) -> list[str]:
    found = await person.do("POST", "/user_directory/search", {"search_term": term, **wanted})
    return [user["user_id"] for user in found["results"]]


async def test_a_room_is_listed_as_long_as_its_members_want(alice, bob):
    name = f"The Looking-Glass of {alice.localpart}"
    room = await alice.create_room(
        name=name, topic="Backwards", preset=nio.RoomPreset.public_chat, alias=f"glass-{alice.localpart}"
    )
    where = f"/directory/list/room/{part(room)}"
    assert (await bob.get(where))["visibility"] == "private"
    assert room not in await listed(bob)
    assert (await bob.call("PUT", where, {"visibility": "public"})).status == 403

    await publish(alice, room)
    assert (await bob.get(where))["visibility"] == "public"
    entry = (await listed(bob))[room]
    assert entry == (await listed(bob, filter={"generic_search_term": name.upper()}))[room]
    wanted = {
        "name": name,
        "topic": "Backwards",
        "canonical_alias": f"#glass-{alice.localpart}:{alice.server.name}",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
    }
    assert {key: entry.get(key) for key in wanted} == wanted
    assert entry.get("join_rule", "public") == "public"
    assert room not in await listed(bob, filter={"generic_search_term": "no such words"})
    await publish(alice, room, "private")
    assert room not in await listed(bob)


async def test_public_rooms_come_in_pages_the_largest_first(alice, bob, new_person):
    rooms = []
    for guests in [(), (bob,), (bob, await new_person())]:
        name = f"Caucus {alice.localpart}"
        rooms.append(await alice.create_room(*guests, name=name, **PUBLIC))
    found = await listed(bob, filter={"generic_search_term": f"caucus {alice.localpart}"})
    assert list(found) == rooms[::-1]
    page = await alice.get("/publicRooms", limit=1)
    assert len(page["chunk"]) == 1 and page["total_room_count_estimate"] >= 3 and page["next_batch"]
    spaces = await alice.create_room(space=True, **PUBLIC)
    assert spaces in await listed(bob, filter={"room_types": ["m.space"]})
    assert spaces not in await listed(bob, filter={"room_types": [None]})


async def test_people_find_those_whom_they_may_see(alice, bob, new_person):
    stranger = await new_person()
    name = f"Tweedledum{alice.localpart} Carroll"
    await alice.client.set_displayname(name)
    await alice.create_room(bob)

    async def found(person, term):
        return alice.user_id in await people(person, term)

    for term in [name, f"tweedledum{alice.localpart}", alice.localpart, alice.user_id]:
        await until_true(lambda term=term: found(bob, term))
    assert not await found(stranger, name)
    answer = await bob.do("POST", "/user_directory/search", {"search_term": name})
    [result] = answer["results"]
    assert (result["user_id"], result["display_name"]) == (alice.user_id, name)
    assert answer["limited"] is False

    # In a public room, everybody may see her.
    room = await alice.create_room(preset=nio.RoomPreset.public_chat)
    await publish(alice, room)
    await until_true(lambda: found(stranger, name))


async def test_two_people_find_the_rooms_that_they_share(alice, bob):
    shared = {await alice.create_room(bob), await alice.create_room(bob)}
    await alice.create_room()
    answer = await alice.get("/_matrix/client/v1/mutual_rooms", user_id=bob.user_id)
    assert set(answer["joined"]) == shared
