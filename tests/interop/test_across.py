"""matrix-js-sdk and matrix-nio with each other, each with its own cryptography."""

import asyncio
import base64
import hashlib
import os

import nio
import pytest
from nio.crypto.attachments import decrypt_attachment
from nio.crypto.sas import Sas
from person import PASSWORD, expect, until, until_true

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def pair(new_js, new_nio):
    """Alice with matrix-js-sdk, Bob with matrix-nio."""
    return await asyncio.gather(new_js("alice"), new_nio("bob"))


async def room_of(alice, bob, encrypted=True) -> str:
    room = await alice.do("create_room", invite=[bob.user_id], encrypted=encrypted)
    await bob.join(room)
    await bob.in_room(room, encrypted)
    await alice.do("knows_member", room=room, user=bob.user_id)
    return room


async def restart(server, end, *devices) -> None:
    """Stops or kills the server; when it is back, those who would wait for a while ask at once."""
    await asyncio.to_thread(end)
    await asyncio.to_thread(server.start)
    for device in devices:
        await device.do("retry")


async def test_two_clients_understand_each_other(own_server, pair, new_js):
    alice, bob = pair
    room = await room_of(alice, bob)
    sent = await alice.say(room, "Two days wrong!")
    heard = await bob.event(sent)
    assert (heard.body, heard.decrypted) == ("Two days wrong!", True)
    answer = await alice.message(room, await bob.say(room, "It was the best butter"))
    assert (answer["body"], answer["encrypted"], answer["sender"]) == ("It was the best butter", True, bob.user_id)

    # The server comes back, and both go on with the sessions they have; a device that is new gets to know them.
    for end in (own_server.stop, own_server.kill):
        await restart(own_server, end, alice)
        assert (await bob.event(await alice.say(room, "I told you butter wouldn't suit the works!"))).decrypted
        assert (await alice.message(room, await bob.say(room, "yes")))["encrypted"]
    second = await new_js("alice", known=True)
    await second.until(lambda messages: messages, "messages", room=room)
    await bob.device_of(alice.user_id, second.device_id)
    sent = await bob.say(room, "to both")
    for device in (alice, second):
        assert (await device.message(room, sent))["body"] == "to both"


@pytest.fixture
def as_specified(monkeypatch):
    """Mends how nio 0.26 compares short strings, in which it agrees with itself only: it writes the commitment in
    hexadecimal, not in Base64, and its codes of authentication are those of a newer kind than it says."""
    class Commitment:
        def __init__(self, text):
            self.digest = hashlib.sha256(text).digest()

        def hexdigest(self):
            return base64.b64encode(self.digest).decode().rstrip("=")

    monkeypatch.setattr("nio.crypto.sas.sha256", Commitment)
    monkeypatch.setattr(Sas, "_mac_normal", "hkdf-hmac-sha256.v2")
    monkeypatch.setattr(Sas, "_mac_v1", [Sas._mac_normal])


@pytest.mark.parametrize(("asks", "localpart"), [("js", "alice"), ("nio", "bob")])
async def test_they_verify_each_other(new_js, new_nio, as_specified, asks, localpart):
    """By comparing short strings; a device of one's own is signed then, too. nio has neither cross-signing nor the frame
    of a verification, its request, readiness and end: those are the test's."""
    alice = await new_js("alice")
    await alice.do("set_up_recovery", password=PASSWORD)
    await alice.do("answer_verifications")
    is_own = localpart == "alice"
    other = await new_nio(localpart, known=is_own)
    if is_own:
        await other.in_room(await alice.do("create_room", invite=[], encrypted=True))
    else:
        await room_of(alice, other)
    them = {"user": other.user_id, "device": other.device_id}
    await alice.until(lambda known: known, "knows_device", **them)
    known = await other.device_of(alice.user_id, alice.device_id)

    if asks == "js":
        await alice.do("verify", **them)
    else:
        await other.verify(alice.user_id, alice.device_id)
    wanted = "device" if is_own else "here"
    await alice.until(lambda trust: trust[wanted], "trust", **them)
    await until(lambda: known.verified)
    assert len(other.compared) == 1 and other.compared == await alice.do("compared")

    async def is_cross_signed():
        keys = await other.do("POST", "/keys/query", {"device_keys": {other.user_id: []}})
        return len(keys["device_keys"][other.user_id][other.device_id]["signatures"][other.user_id]) == 2

    if is_own:
        await until_true(is_cross_signed)


async def test_a_new_device_restores_the_backup(own_server, pair, new_js):
    """nio has no backup; the keys of what it says are in Alice's."""
    alice, bob = pair
    recovery_key = await alice.do("set_up_recovery", password=PASSWORD)
    room = await room_of(alice, bob)
    sent = [await alice.say(room, "before"), await bob.say(room, "before, too")]
    for event in sent:
        await alice.message(room, event)
    await alice.until(lambda count: count == 2, "backed_up")
    await restart(own_server, own_server.kill)
    await alice.close()

    second = await new_js("alice", known=True)
    await second.until(lambda messages: len(messages) == 2, "messages", room=room)
    assert all(message["failure"] for message in await second.do("messages", room=room))
    assert await second.do("restore", recovery_key=recovery_key) == 2
    assert [(await second.message(room, event))["body"] for event in sent] == ["before", "before, too"]


def text(body: str, **more) -> dict:
    return {"msgtype": "m.text", "body": body, **more}


def related(rel_type: str, event: str, **more) -> dict:
    return {"m.relates_to": {"rel_type": rel_type, "event_id": event, **more}}


def edit(event: str, body: str) -> dict:
    return text(f"* {body}", **{"m.new_content": text(body)}, **related("m.replace", event))


@pytest.mark.parametrize("encrypted", [True, False])
async def test_receipts_and_unread_counts(pair, encrypted):
    """nio shows what the server counts, which doesn't know whom an encrypted message mentions."""
    alice, bob = pair
    room = await room_of(alice, bob, encrypted)
    here = bob.client.rooms[room]

    async def counts(notifications, highlights):
        await until(lambda: (here.unread_notifications, here.unread_highlights) == (notifications, highlights))

    async def unread(total, highlight, in_thread=None):
        # Where matrix-js-sdk decrypts, it counts by itself, and nothing in threads.
        threads = {root: [0, 0] if encrypted else in_thread} if in_thread else {}
        wanted = {"total": total, "highlight": highlight, "threads": threads}
        await alice.until(lambda unread: unread == wanted, "unread", room=room)

    def mention(who, body):
        return text(body, **{"m.mentions": {"user_ids": [who.user_id]}})

    def alice_read():
        receipts = here.threaded_read_receipts.get(alice.user_id, {})
        return {thread: receipt.event_id for thread, receipt in receipts.items()}

    root = await alice.say(room, "Take some more tea")
    await bob.event(root)
    await counts(1, 0)
    sent = await alice.do("send", room=room, content=mention(bob, "Bob!"))
    await bob.event(sent)
    await counts(2, 0 if encrypted else 1)
    expect(await bob.client.room_read_markers(room, sent, sent), nio.RoomReadMarkersResponse)
    await counts(0, 0)
    await alice.until(lambda event: event == sent, "read_by", room=room, user=bob.user_id)

    await alice.message(room, await bob.say(room, "I've had nothing yet"))
    await unread(1, 0)
    last = await bob.send(room, mention(alice, "so I can't take more"))
    await alice.message(room, last)
    await unread(2, 1)
    for reply in (text("in the thread"), mention(alice, "there, too")):
        reply = await bob.send(room, {**reply, **related("m.thread", root)})
        assert (await alice.message(room, reply))["thread"] == root
    await unread(2, 1, [2, 1])
    await alice.do("read", room=room, event=reply)
    await unread(2, 1, [0, 0])
    await alice.do("read", room=room, event=last)
    await unread(0, 0, [0, 0])
    await until(lambda: alice_read().get("main") == last and alice_read()[root] == reply)

    answer = await alice.do("reply_in_thread", room=room, root=root, body="You mean you can't take less")
    assert (await bob.event(answer)).source["content"]["m.relates_to"]["event_id"] == root
    await counts(1, 0)
    after = await alice.say(room, "it's very easy to take more than nothing")
    await bob.event(after)
    await counts(2, 0)
    for thread, event, left in ((root, answer, 1), ("main", after, 0)):
        read = await bob.client.update_receipt_marker(room, event, nio.ReceiptType.read, thread)
        expect(read, nio.UpdateReceiptMarkerResponse)
        await counts(left, 0)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_edits_and_reactions(pair, encrypted):
    alice, bob = pair
    room = await room_of(alice, bob, encrypted)
    said = [await alice.say(room, "by Alise"), await bob.say(room, "by Bop")]
    await alice.message(room, said[1])
    await bob.event(said[0])
    edits = [
        await alice.do("send", room=room, content=edit(said[0], "by Alice")),
        await bob.send(room, edit(said[1], "by Bob")),
    ]

    def edited(messages):
        return [m["body"] for m in messages if m["edited"]] == ["by Alice", "by Bob"]

    await alice.until(edited, "messages", room=room)
    content = (await bob.event(edits[0])).source["content"]
    assert (content["m.new_content"]["body"], content["m.relates_to"]["event_id"]) == ("by Alice", said[0])

    reaction = related("m.annotation", said[1], key="🫖")
    sent = await alice.do("send", room=room, type="m.reaction", content=reaction)
    seen = await bob.event(sent)
    assert (type(seen), seen.reacts_to, seen.key) == (nio.ReactionEvent, said[1], "🫖")
    await bob.send(room, reaction, "m.reaction")
    await alice.until(lambda keys: keys == {"🫖": 2}, "reactions", room=room, event=said[1])


@pytest.mark.parametrize("encrypted", [True, False])
async def test_files_go_both_ways(pair, tmp_path, encrypted):
    """What is encrypted is bytes of which the server knows nothing, and the message says how to read them."""
    alice, bob = pair
    room = await room_of(alice, bob, encrypted)
    picture = os.urandom(200_000)
    shown = base64.b64encode(picture).decode()
    path = tmp_path / "picture"
    path.write_bytes(picture)

    def message(url, file):
        return {"msgtype": "m.image", "body": "picture", **({"file": {**file, "url": url}} if file else {"url": url})}

    if encrypted:
        file = await alice.do("upload_encrypted", base64=shown)
        url = file["url"]
    else:
        file, url = None, await alice.do("upload", base64=shown, type="image/png")
    sent = await alice.do("send", room=room, content=message(url, file))
    told = (await bob.event(sent)).source["content"]
    file = told.get("file")
    got = expect(await bob.client.download((file or told)["url"]), nio.MemoryDownloadResponse)
    assert (got.body == picture, got.content_type == "image/png") == (not encrypted, not encrypted)
    if encrypted:
        assert decrypt_attachment(got.body, file["key"]["k"], file["hashes"]["sha256"], file["iv"]) == picture

    uploaded, file = await bob.client.upload(lambda *_: path, "image/png", encrypt=encrypted, filesize=len(picture))
    sent = await bob.send(room, message(expect(uploaded, nio.UploadResponse).content_uri, file))
    told = (await alice.message(room, sent))["content"]
    got = await alice.do("download", url=told.get("url"), file=told.get("file"))
    assert (got["base64"] == shown, got["type"] == "image/png") == (True, not encrypted)
