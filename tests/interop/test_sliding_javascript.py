"""matrix-js-sdk with sliding sync in the place of `/sync`, and Rust cryptography."""

import asyncio

import pytest
from person import at_a_desk

pytestmark = pytest.mark.timeout(240)


async def test_rooms_appear_and_people_talk(new_js):
    alice, bob = await asyncio.gather(new_js("alice", sliding=True), new_js("bob", sliding=True))
    carol = await new_js("carol")
    room = await alice.do("create_room", invite=[bob.user_id, carol.user_id], encrypted=True)
    for guest in (bob, carol):
        await guest.until(lambda membership: membership == "invite", "membership", room=room)
        await guest.do("join", room=room)
    await asyncio.gather(*(guest.do("look_into", room=room) for guest in (alice, bob)))
    for one in (alice, bob, carol):
        for other in (alice, bob, carol):
            await one.do("knows_member", room=room, user=other.user_id)
    for one in (alice, bob, carol):
        sent = await one.say(room, f"from {one.localpart}")
        for other in (alice, bob, carol):
            heard = await other.message(room, sent)
            assert (heard["body"], heard["encrypted"], heard["sender"]) == (f"from {one.localpart}", True, one.user_id)

    # A device that is new is encrypted for, too.
    second = await new_js("bob", known=True, sliding=True)
    await second.do("look_into", room=room)
    await alice.until(lambda known: known, "knows_device", user=bob.user_id, device=second.device_id)
    assert (await second.message(room, await alice.say(room, "to both")))["body"] == "to both"


async def test_the_list_is_scrolled(new_js):
    alice = await new_js("alice", sliding=True)
    hands = await at_a_desk(alice)
    names = [f"room {n:02}" for n in range(60)]
    rooms = [await hands.create_room(name=name) for name in names]
    # The window stands at the newest, through which all went.
    await alice.until(lambda shown: (shown["count"], shown["names"]) == (60, names[::-1]), "rooms")

    again = await new_js("alice", known=True, sliding=True)
    await again.until(lambda shown: (shown["count"], shown["names"]) == (60, names[:39:-1]), "rooms")
    await again.do("scroll", ranges=[[0, 39]])
    await again.until(lambda shown: shown["names"] == names[:19:-1], "rooms")
    # What is below stays out of sight until something happens there.
    await hands.say(rooms[7], "Is anybody there?")
    shown = await again.until(lambda shown: len(shown["names"]) == 41, "rooms")
    assert shown["names"][0] == "room 07"
    await again.do("scroll", ranges=[[50, 59]])
    shown = await again.until(lambda shown: len(shown["names"]) == 51, "rooms")
    assert set(names) - set(shown["names"]) == set(names[11:20]) and shown["refused"] == []
    await hands.close()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_server_is_started_again(new_js, own_server, how):
    alice, bob = await asyncio.gather(new_js("alice", sliding=True), new_js("bob", sliding=True))
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=True)
    await bob.do("join", room=room)
    for one, other in ((alice, bob), (bob, alice)):
        await one.do("look_into", room=room)
        await one.do("knows_member", room=room, user=other.user_id)
    said = [await alice.say(room, "before")]
    await bob.message(room, said[0])
    await asyncio.to_thread(getattr(own_server, how))
    await asyncio.to_thread(own_server.start)
    for one, other in ((alice, bob), (bob, alice)):
        said.append(await one.say(room, f"from {one.localpart}"))
        assert (await other.message(room, said[-1]))["body"] == f"from {one.localpart}"
    for one in (alice, bob):
        shown = [message["event_id"] for message in await one.do("messages", room=room)]
        assert shown == said
        refused = (await one.do("rooms"))["refused"]
        # After an orderly stop they go on where they were; else they are told to begin anew, and do. Synapse writes down
        # each position.
        begun_anew = how == "kill" and own_server.kind == "tayberry"
        assert refused.count("M_UNKNOWN_POS") == begun_anew, refused


async def test_unread_counts_receipts_and_threads(new_js, own_server):
    if own_server.kind == "synapse":
        pytest.skip("Synapse counts nothing in sliding sync")
    alice, bob = await asyncio.gather(new_js("alice", sliding=True), new_js("bob", sliding=True))
    room = await alice.do("create_room", invite=[bob.user_id])
    await bob.do("join", room=room)
    for one, other in ((alice, bob), (bob, alice)):
        await one.do("look_into", room=room)
        await one.do("knows_member", room=room, user=other.user_id)
    root = await alice.say(room, "a riddle")
    await bob.message(room, root)
    await bob.until(lambda unread: unread["total"] == 1, "unread", room=room)
    await bob.do("read", room=room, event=root)
    await bob.until(lambda unread: unread["total"] == 0, "unread", room=room)
    await alice.until(lambda event: event == root, "read_by", room=room, user=bob.user_id)

    replies = [await bob.do("reply_in_thread", room=room, root=root, body=f"guess {n}") for n in range(2)]
    for event in replies:
        assert (await alice.message(room, event))["thread"] == root
    await alice.until(lambda unread: unread["total"] == 2, "unread", room=room)
    last = await alice.say(room, f"{bob.user_id} has it")
    await bob.message(room, last)
