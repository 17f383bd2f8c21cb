"""Relations: what the server gathers about an event, threads, jumping to a date, notifications."""

import json
import time

from person import part


async def send(person, room: str, content: dict, kind: str = "m.room.message") -> str:
    path = f"/rooms/{part(room)}/send/{kind}/{time.monotonic_ns()}"
    return (await person.do("PUT", path, content))["event_id"]


async def relate(person, room: str, rel_type: str, event: str, kind="m.room.message", **more) -> str:
    relation = {"rel_type": rel_type, "event_id": event, **more.pop("relation", {})}
    return await send(person, room, {"msgtype": "m.text", "body": "…", "m.relates_to": relation, **more}, kind)


async def edit(person, room: str, event: str, text: str) -> str:
    new = {"msgtype": "m.text", "body": text}
    return await relate(person, room, "m.replace", event, body=f"* {text}", **{"m.new_content": new})


async def bundled(person, room: str, event: str) -> dict:
    """What is gathered about an event, which is the same wherever the event is read by itself."""
    one = await person.get(f"/rooms/{part(room)}/event/{part(event)}")
    page = await person.get(f"/rooms/{part(room)}/messages", dir="b", limit=50)
    context = await person.get(f"/rooms/{part(room)}/context/{part(event)}")
    found = [e for e in (*page["chunk"], context["event"]) if e["event_id"] == event]
    gathered = one.get("unsigned", {}).get("m.relations", {})
    assert len(found) == 2
    for event in found:
        told = event.get("unsigned", {}).get("m.relations", {})
        assert told.keys() == gathered.keys()
        for kind in ("m.replace", "m.reference"):
            assert stable(told.get(kind)) == stable(gathered.get(kind))
    return gathered


def stable(value):
    """Without the age, which is another in each answer."""
    if isinstance(value, dict):
        return {key: stable(inner) for key, inner in value.items() if key not in ("age", "room_id", "user_id", "membership")}
    return [stable(inner) for inner in value] if isinstance(value, list) else value


async def test_edits_and_references_are_gathered(alice, bob):
    room = await alice.create_room(bob)
    said = await alice.say(room, "first")
    assert await bundled(bob, room, said) == {}
    await edit(alice, room, said, "second")
    last = await edit(alice, room, said, "third")
    await edit(bob, room, said, "not his to edit")
    referring = await relate(bob, room, "m.reference", said)
    gathered = await bundled(bob, room, said)
    assert gathered["m.replace"]["event_id"] == last
    assert gathered["m.replace"]["content"]["m.new_content"]["body"] == "third"
    assert gathered["m.reference"] == {"chunk": [{"event_id": referring}]}
    # A client that has missed something is told what is gathered about what it gets.
    first = await bob.get("/sync", timeout=0, filter=json.dumps({"room": {"timeline": {"limit": 5}}}))
    timeline = first["rooms"]["join"][room]["timeline"]
    assert timeline["limited"] and timeline["events"][0]["event_id"] == said
    assert timeline["events"][0]["unsigned"]["m.relations"]["m.replace"]["event_id"] == last
    await alice.do("PUT", f"/rooms/{part(room)}/redact/{part(last)}/{time.monotonic_ns()}", {})
    assert (await bundled(bob, room, said))["m.replace"]["content"]["m.new_content"]["body"] == "second"


async def test_a_reaction_is_not_taken_twice(alice, bob):
    room = await alice.create_room(bob)
    said = await alice.say(room, "wow")
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}}
    await send(bob, room, content, "m.reaction")
    twice = await bob.call("PUT", f"/rooms/{part(room)}/send/m.reaction/{time.monotonic_ns()}", content)
    assert (twice.status, twice.errcode) == (400, "M_DUPLICATE_ANNOTATION")
    await send(alice, room, content, "m.reaction")


async def test_threads_are_gathered_and_listed(alice, bob):
    room = await alice.create_room(bob)
    older, newer, plain = [await alice.say(room, text) for text in ("older", "newer", "plain")]
    await relate(alice, room, "m.thread", newer)
    replies = [await relate(person, room, "m.thread", older) for person in (alice, bob)]
    thread = (await bundled(alice, room, older))["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (2, True)
    assert thread["latest_event"]["event_id"] == replies[-1]
    assert not (await bundled(bob, room, newer))["m.thread"]["current_user_participated"]
    assert "m.thread" not in await bundled(bob, room, plain)

    async def threads(person, **query):
        page = await person.get(f"/_matrix/client/v1/rooms/{part(room)}/threads", **query)
        return [event["event_id"] for event in page["chunk"]], page.get("next_batch")

    assert (await threads(bob))[0] == [older, newer]
    assert (await threads(bob, include="participated"))[0] == [older]
    first, token = await threads(bob, limit=1)
    assert first == [older] and (await threads(bob, limit=1, **{"from": token}))[0] == [newer]

    refused = {"m.relates_to": {"rel_type": "m.thread", "event_id": replies[0]}, "msgtype": "m.text", "body": "deeper"}
    answer = await bob.call("PUT", f"/rooms/{part(room)}/send/m.room.message/{time.monotonic_ns()}", refused)
    assert answer.status == 400


async def test_a_date_leads_to_an_event(alice, bob):
    room = await alice.create_room(bob)
    first = await alice.say(room, "first")
    second = await alice.say(room, "second")
    at = {}
    for event in (first, second):
        at[event] = (await bob.get(f"/rooms/{part(room)}/event/{part(event)}"))["origin_server_ts"]
    path = f"/_matrix/client/v1/rooms/{part(room)}/timestamp_to_event"
    found = await bob.get(path, ts=at[first], dir="f")
    assert found == {"event_id": first, "origin_server_ts": at[first]} or at[first] == at[second]
    assert (await bob.get(path, ts=at[second] + 60_000, dir="b"))["event_id"] == second
    nothing = await bob.call("GET", path, ts=at[second] + 60_000, dir="f")
    assert (nothing.status, nothing.errcode) == (404, "M_NOT_FOUND")


async def test_what_somebody_was_notified_of_can_be_read_again(alice, bob):
    room = await alice.create_room(bob)
    plain = await alice.say(room, "hello")
    content = {"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [bob.user_id]}}
    loud = await send(alice, room, content)

    async def notified(**query):
        page = await bob.get("/notifications", **query)
        return [(entry["event"]["event_id"], entry["read"]) for entry in page["notifications"] if entry["room_id"] == room]

    entries = await notified()
    assert (loud, False) in entries and (plain, False) in entries
    assert [event for event, _ in await notified(only="highlight")] == [loud]
    await bob.do("POST", f"/rooms/{part(room)}/receipt/m.read/{part(plain)}")
    assert {(plain, True), (loud, False)} <= set(await notified())
