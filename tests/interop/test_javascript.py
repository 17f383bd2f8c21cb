"""Encrypted conversations between matrix-js-sdk and matrix-nio, each with its own cryptography, and a bot."""

import asyncio
import base64
import os
from contextlib import asynccontextmanager

import nio
import pytest
from js_device import JS, JsDevice
from person import PASSWORD, Person, expect, until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def new_device(own_server):
    """Starts a JavaScript client: `await new_device("alice")`, `await new_device("alice", known=True)`."""
    started = []

    async def enter(localpart, known=False):
        started.append(await JsDevice.enter(own_server, localpart, known))
        return started[-1]

    yield enter
    for device in started:
        await device.close()


@pytest.fixture
async def recoverable(new_device):
    """Alice and Bob with cross-signing and a backup, and Alice's recovery key."""
    alice, bob = await new_device("alice"), await new_device("bob")
    keys = await asyncio.gather(*(person.do("set_up_recovery", password=PASSWORD) for person in (alice, bob)))
    return alice, bob, keys[0]


async def room_of(alice, bob, encrypted=True) -> str:
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=encrypted)
    await bob.do("join", room=room)
    await alice.do("knows_member", room=room, user=bob.user_id)
    return room


@asynccontextmanager
async def encrypting_nio(server, localpart: str, folder):
    """A person whose nio client encrypts, and what it could decrypt, while its sync loop runs."""
    config = nio.AsyncClientConfig(encryption_enabled=True, backoff_factor=0.05, max_timeout_retry_wait_time=0.5)
    client = nio.AsyncClient(server.url, localpart, store_path=str(folder), config=config)
    expect(await client.register(localpart, PASSWORD, "nio"), nio.RegisterResponse)
    heard: list[nio.Event] = []
    client.add_event_callback(lambda room, event: heard.append(event), (nio.RoomMessageText, nio.MegolmEvent))
    expect(await client.sync(full_state=True), nio.SyncResponse)
    loop = asyncio.create_task(client.sync_forever(timeout=3_000))
    yield Person(server, client, localpart), heard
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await client.close()


async def test_two_clients_understand_each_other(own_server, new_device, tmp_path):
    alice = await new_device("alice")
    async with encrypting_nio(own_server, "bob", tmp_path) as (bob, heard):
        room = await alice.do("create_room", invite=[bob.user_id], encrypted=True)
        await bob.join(room)
        await until(lambda: room in bob.client.rooms and bob.client.rooms[room].encrypted)
        await alice.do("knows_member", room=room, user=bob.user_id)

        async def bob_says(text):
            content = {"msgtype": "m.text", "body": text}
            sent = await bob.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
            return expect(sent, nio.RoomSendResponse).event_id

        sent = await alice.say(room, "Two days wrong!")
        await until(lambda: [event.event_id for event in heard] == [sent])
        assert (heard[0].body, heard[0].decrypted) == ("Two days wrong!", True)
        answer = await alice.message(room, await bob_says("It was the best butter"))
        assert (answer["body"], answer["encrypted"], answer["sender"]) == ("It was the best butter", True, bob.user_id)

        # The server comes back, and both go on with the sessions they have; a device that is new gets to know them.
        for end in (own_server.stop, own_server.kill):
            await asyncio.to_thread(end)
            await asyncio.to_thread(own_server.start)
            sent = await alice.say(room, "I told you butter wouldn't suit the works!")
            await until(lambda sent=sent: heard[-1].event_id == sent and heard[-1].decrypted)
            assert (await alice.message(room, await bob_says("yes")))["encrypted"]
        second = await new_device("alice", known=True)
        await second.until(lambda messages: messages, "messages", room=room)
        await until(lambda: second.device_id in bob.client.device_store[alice.user_id])
        for device in (alice, second):
            sent = await bob_says("to both")
            assert (await device.message(room, sent))["body"] == "to both"


async def test_devices_and_people_verify_each_other(recoverable, new_device):
    alice, bob, _ = recoverable
    room = await room_of(alice, bob)
    await alice.do("answer_verifications")
    second = await new_device("alice", known=True)
    await second.until(lambda trust: not trust["device"], "trust", user=alice.user_id, device=alice.device_id)

    shown = await second.do("verify")
    assert await alice.do("compared") == [shown]
    trusted = {"user": alice.user_id, "device": second.device_id}
    await alice.until(lambda trust: trust == {"user": True, "device": True}, "trust", **trusted)
    assert await bob.do("trust", **trusted) == {"user": False, "device": False}

    shown = await bob.do("verify", user=alice.user_id, room=room)
    assert (await alice.do("compared"))[-1] == shown
    await bob.until(lambda trust: trust == {"user": True, "device": True}, "trust", **trusted)


async def test_a_new_device_restores_the_backup(recoverable, new_device, own_server):
    alice, bob, recovery_key = recoverable
    room = await room_of(alice, bob)
    sent = [await alice.say(room, "before"), await bob.say(room, "before, too")]
    for event in sent:
        await alice.message(room, event)
    await alice.until(lambda count: count == 2, "backed_up")
    await asyncio.to_thread(own_server.kill)
    await asyncio.to_thread(own_server.start)
    await alice.close()

    second = await new_device("alice", known=True)
    await second.until(lambda messages: len(messages) == 2, "messages", room=room)
    assert all(message["failure"] for message in await second.do("messages", room=room))
    assert await second.do("restore", recovery_key=recovery_key) == 2
    assert [(await second.message(room, event))["body"] for event in sent] == ["before", "before, too"]


@pytest.mark.parametrize("encrypted", [True, False])
async def test_threads_edits_reactions_receipts_and_unread_counts(new_device, encrypted):
    alice, bob = await new_device("alice"), await new_device("bob")
    room = await room_of(alice, bob, encrypted)
    root = await alice.say(room, "Take some more tea")
    await bob.message(room, root)
    await bob.until(lambda unread: unread["total"] == 1, "unread", room=room)
    await bob.do("read", room=room, event=root)
    await bob.until(lambda unread: unread["total"] == 0, "unread", room=room)
    await alice.until(lambda event: event == root, "read_by", room=room, user=bob.user_id)

    reply = await bob.do("reply_in_thread", room=room, root=root, body="I've had nothing yet")
    assert (await alice.message(room, reply))["thread"] == root
    if not encrypted:  # where messages are encrypted, the client counts by itself
        await alice.until(lambda unread: unread["threads"] == {root: 1}, "unread", room=room)

    said = await bob.say(room, "so I can't take moar")
    await alice.message(room, said)
    new = {"msgtype": "m.text", "body": "so I can't take more"}
    replace = {"rel_type": "m.replace", "event_id": said}
    edit = await bob.do("send", room=room, content={**new, "m.new_content": new, "m.relates_to": replace})
    def edited(messages):
        return [m for m in messages if m["event_id"] == said and m["edited"] == edit]

    assert edited(await alice.until(edited, "messages", room=room))[0]["body"] == "so I can't take more"

    annotation = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "🫖"}}
    await alice.do("send", room=room, type="m.reaction", content=annotation)
    for device in (alice, bob):
        await device.until(lambda keys: keys == {"🫖": 1}, "reactions", room=room, event=said)


async def test_media_go_from_one_client_to_the_other(own_server, new_device, tmp_path):
    alice = await new_device("alice")
    bob = await Person.register(own_server, "bob")
    picture = os.urandom(200_000)
    uri = await alice.do("upload", base64=base64.b64encode(picture).decode(), type="image/png")
    got = expect(await bob.client.download(uri), nio.DownloadResponse)
    assert (got.body, got.content_type) == (picture, "image/png")
    # An encrypted file is bytes of which the server knows nothing.
    path = tmp_path / "letter"
    path.write_bytes(picture)
    sent, keys = await bob.client.upload(lambda *_: path, "text/plain", encrypt=True, filesize=len(picture))
    got = expect(await bob.client.download(expect(sent, nio.UploadResponse).content_uri), nio.DownloadResponse)
    assert got.body != picture
    key, digest, start = keys["key"]["k"], keys["hashes"]["sha256"], keys["iv"]
    assert nio.crypto.attachments.decrypt_attachment(got.body, key, digest, start) == picture
    await bob.close()


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
