"""The server's disk is lost, and a backup takes its place: people go on with the devices that they have."""

import asyncio
import os
import shutil
import subprocess

import pytest

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.parametrize("own_server", ["tayberry"], indirect=True),
    pytest.mark.parametrize("sliding", [False, True], ids=["sync", "sliding"]),
]


async def operate(server, *words) -> str:
    """Runs a command of the operator on the server's folder."""
    command = [os.environ["TAYBERRY_BINARY"], *words, "--data-dir", str(server.folder / "data")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_people_go_on_talking_after_a_loss(own_server, new_js, new_nio, sliding):
    alice, bob, carol = await asyncio.gather(new_js("alice", sliding=sliding), new_nio("bob"), new_js("carol"))
    room = await alice.do("create_room", invite=[bob.user_id, carol.user_id], encrypted=True)
    if sliding:
        await alice.do("look_into", room=room)
    await bob.join(room)
    await bob.in_room(room)
    await alice.do("knows_member", room=room, user=bob.user_id)
    await carol.until(lambda membership: membership == "invite", "membership", room=room)

    async def both_ways(text: str) -> None:
        heard = await bob.event(await alice.say(room, f"Alice: {text}"))
        assert (heard.body, heard.decrypted) == (f"Alice: {text}", True)
        heard = await alice.message(room, await bob.say(room, f"Bob: {text}"))
        assert (heard["body"], heard["encrypted"]) == (f"Bob: {text}", True)

    await both_ways("before")
    backups = str(own_server.folder / "backups")
    await operate(own_server, "backup", backups)
    await both_ways("lost")

    await asyncio.to_thread(own_server.kill)
    shutil.rmtree(own_server.folder / "data")
    await operate(own_server, "restore", backups)
    await asyncio.to_thread(own_server.start)
    await asyncio.gather(alice.do("retry"), carol.do("retry"))
    for n in range(3):
        await both_ways(f"after {n}")

    # Whoever comes now is encrypted for as well, by keys that nobody had before.
    await carol.do("join", room=room)
    await alice.do("knows_member", room=room, user=carol.user_id)
    await bob.device_of(carol.user_id, carol.device_id)
    for sent in (await alice.say(room, "to all"), await bob.say(room, "to all")):
        assert (await carol.message(room, sent))["body"] == "to all"
    sent = await carol.say(room, "from Carol")
    assert (await alice.message(room, sent))["body"] == (await bob.event(sent)).body == "from Carol"
    assert await operate(own_server, "verify") == "Nothing is damaged.\n"
