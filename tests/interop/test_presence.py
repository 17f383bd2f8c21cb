"""Presence, tags, and what a user wants of rooms and people."""

from person import part, until_true


async def test_those_who_share_a_room_hear_of_each_others_presence(alice, bob, new_person):
    stranger = await new_person()
    await alice.create_room(bob)
    tokens = {}
    for person in (bob, stranger):
        tokens[person] = (await person.get("/sync", timeout=0, set_presence="offline"))["next_batch"]

    async def heard_of_alice(person):
        answer = await person.get("/sync", since=tokens[person], timeout=0, set_presence="offline")
        tokens[person] = answer["next_batch"]
        events = answer.get("presence", {}).get("events", [])
        return [event["content"] for event in events if event["sender"] == alice.user_id]

    where = f"/presence/{part(alice.user_id)}/status"
    await alice.do("PUT", where, {"presence": "online", "status_msg": "at the tea-party"})

    async def heard():
        return [c for c in await heard_of_alice(bob) if c.get("status_msg") == "at the tea-party"]

    assert (await until_true(heard))[-1]["presence"] == "online"
    status = await bob.get(where)
    assert (status["presence"], status["status_msg"]) == ("online", "at the tea-party")
    assert await heard_of_alice(stranger) == []
    assert (await stranger.call("GET", where)).status == 403
    assert (await bob.call("PUT", where, {"presence": "online"})).status == 403
    await alice.do("PUT", where, {"presence": "offline"})

    async def gone():
        return (await bob.get(where))["presence"] == "offline"

    await until_true(gone)


async def test_tags_are_set_told_and_removed(alice):
    room = await alice.create_room()
    token = (await alice.get("/sync", timeout=0))["next_batch"]
    tags = f"/user/{part(alice.user_id)}/rooms/{part(room)}/tags"
    await alice.do("PUT", f"{tags}/m.favourite", {"order": 0.25})
    await alice.do("PUT", f"{tags}/u.tea", {})
    wanted = {"m.favourite": {"order": 0.25}, "u.tea": {}}
    assert (await alice.get(tags))["tags"] == wanted
    told = (await alice.get("/sync", since=token, timeout=0))["rooms"]["join"][room]["account_data"]["events"]
    assert [event["content"]["tags"] for event in told if event["type"] == "m.tag"] == [wanted]
    await alice.do("DELETE", f"{tags}/m.favourite")
    assert (await alice.get(tags))["tags"] == {"u.tea": {}}


async def test_a_room_stays_marked_unread(alice):
    room = await alice.create_room()
    other = await alice.another_login()
    token = (await other.get("/sync", timeout=0))["next_batch"]
    path = f"/user/{part(alice.user_id)}/rooms/{part(room)}/account_data/m.marked_unread"
    await alice.do("PUT", path, {"unread": True})
    told = (await other.get("/sync", since=token, timeout=0))["rooms"]["join"][room]["account_data"]["events"]
    assert {"type": "m.marked_unread", "content": {"unread": True}} in told
    await other.close()


async def test_typing_is_told_and_ends(alice, bob):
    room = await alice.create_room(bob)
    token = (await bob.get("/sync", timeout=0))["next_batch"]
    typing = f"/rooms/{part(room)}/typing/{part(alice.user_id)}"

    async def typists():
        nonlocal token
        answer = await bob.get("/sync", since=token, timeout=0)
        token = answer["next_batch"]
        events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
        return [event["content"]["user_ids"] for event in events if event["type"] == "m.typing"]

    for body, wanted in [({"typing": True, "timeout": 20_000}, [alice.user_id]), ({"typing": False}, [])]:
        await alice.do("PUT", typing, body)

        async def told(wanted=wanted):
            return wanted in await typists()

        await until_true(told)
