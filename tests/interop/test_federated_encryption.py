"""matrix-js-sdk on one server and matrix-nio on another, each with its own cryptography: their servers carry keys, lists of
devices and messages to devices for them."""

import asyncio

import pytest
from js_device import JsDevice
from nio_device import NioDevice
from person import numbers, part
from test_federation import PAIRS, Pool, pool  # noqa: F401

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=PAIRS, ids="-".join)
async def pair(request, pool, tmp_path):  # noqa: F811
    """Alice with matrix-js-sdk at home, Bob with matrix-nio away."""
    home, away = request.param
    servers = pool.server(home, 0), pool.server(away, 1)
    number = next(numbers)
    alice = await JsDevice.start(servers[0], f"alice{number}")
    bob = await NioDevice.enter(servers[1], f"bob{number}", tmp_path)
    yield alice, bob
    await alice.close()
    await bob.close()


async def encrypted_room(alice: JsDevice, bob: NioDevice) -> str:
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=True)
    await bob.do("POST", f"/join/{part(room)}?server_name={alice.server.name}")
    await bob.in_room(room)
    await alice.do("knows_member", room=room, user=bob.user_id)
    return room


async def test_two_clients_understand_each_other(pair):
    alice, bob = pair
    room = await encrypted_room(alice, bob)
    heard = await bob.event(await alice.say(room, "Who stole the tarts?"))
    assert (heard.body, heard.decrypted) == ("Who stole the tarts?", True)
    answer = await alice.message(room, await bob.say(room, "It is not known"))
    assert (answer["body"], answer["encrypted"], answer["sender"]) == ("It is not known", True, bob.user_id)

    # A device that is new gets to be known there.
    second = await alice.another_login()
    try:
        await second.until(lambda messages: messages, "messages", room=room)
        await bob.device_of(alice.user_id, second.device_id)
        sent = await bob.say(room, "to both")
        for device in (alice, second):
            assert (await device.message(room, sent))["body"] == "to both"
    finally:
        await second.close()


async def test_keys_reach_who_was_away(pair):
    alice, bob = pair
    room = await encrypted_room(alice, bob)
    assert (await bob.event(await alice.say(room, "before"))).decrypted
    await asyncio.to_thread(bob.server.stop)
    # The key of what is said from now on is shared while nobody is there to take it.
    try:
        await alice.do("renew_session", room=room)
        sent = await alice.say(room, "meanwhile")
    finally:
        await asyncio.to_thread(bob.server.start)
    await bob.say(room, "back")
    heard = await bob.event(sent)
    assert (heard.body, heard.decrypted) == ("meanwhile", True)
