"""matrix-js-sdk among its own, where nio has nothing: people who verify each other. And a bot of matrix-bot-sdk."""

import asyncio

import nio
import pytest
from js_device import JS
from person import PASSWORD, Person, expect

pytestmark = pytest.mark.timeout(240)


async def test_devices_and_people_verify_each_other(new_js):
    alice, bob = await asyncio.gather(new_js("alice"), new_js("bob"))
    await asyncio.gather(*(person.do("set_up_recovery", password=PASSWORD) for person in (alice, bob)))
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=True)
    await bob.do("join", room=room)
    await alice.do("knows_member", room=room, user=bob.user_id)
    await alice.do("answer_verifications")
    second = await new_js("alice", known=True)
    await second.until(lambda trust: not trust["device"], "trust", user=alice.user_id, device=alice.device_id)

    def trusts(wanted):
        return lambda trust: (trust["user"], trust["device"]) == (wanted, wanted)

    shown = await second.do("verify")
    assert await alice.do("compared") == [shown]
    trusted = {"user": alice.user_id, "device": second.device_id}
    await alice.until(trusts(True), "trust", **trusted)
    assert trusts(False)(await bob.do("trust", **trusted))

    shown = await bob.do("verify", user=alice.user_id, room=room)
    assert (await alice.do("compared"))[-1] == shown
    await bob.until(trusts(True), "trust", **trusted)


async def test_a_bot_comes_when_invited_and_answers(own_server):
    bot, alice = await Person.register(own_server, "bot"), await Person.register(own_server, "alice")
    process = await asyncio.create_subprocess_exec(
        "node", str(JS / "bot.mjs"), own_server.url, bot.token, stdout=asyncio.subprocess.PIPE
    )
    try:
        while (line := await process.stdout.readline()) != b"ready\n":
            assert line, "the bot ended"
        room = await alice.create_room()
        expect(await alice.client.room_invite(room, bot.user_id), nio.RoomInviteResponse)
        heard = []
        alice.client.add_event_callback(lambda _, event: heard.append((event.sender, event.body)), nio.RoomMessageText)
        async with asyncio.timeout(30):
            while await alice.membership(room, bot) != "join":
                await asyncio.sleep(0.05)
            await alice.say(room, "!echo Why is a raven like a writing-desk?")
            while not [sender for sender, _ in heard if sender == bot.user_id]:
                await alice.client.sync(timeout=1_000)
        body = next(body for sender, body in heard if sender == bot.user_id)
        assert body.endswith("Why is a raven like a writing-desk?")
    finally:
        process.kill()
        await process.wait()
        await alice.close()
        await bot.close()
