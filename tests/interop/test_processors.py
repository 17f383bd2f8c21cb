"""A server moves to another processor, of which tests/cross names a binary: people go on with the devices that they have."""

import asyncio
import os
import subprocess

import pytest
from nio_device import NioDevice

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif("TAYBERRY_OTHER_BINARY" not in os.environ, reason="tests/cross runs this"),
    pytest.mark.parametrize("own_server", ["tayberry"], indirect=True),
]


async def operate(binary: str, *words) -> subprocess.CompletedProcess:
    """Runs a command of the operator."""
    return await asyncio.to_thread(subprocess.run, [binary, *map(str, words)], capture_output=True, text=True)


async def done(binary: str, *words) -> str:
    """The same of one that must succeed."""
    answer = await operate(binary, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


async def meet(first: NioDevice, second: NioDevice) -> str:
    """A room with both, encrypted."""
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await first.create_room(second, initial_state=[encryption])
    for device, other in ((first, second), (second, first)):
        await device.in_room(room)
        await device.device_of(other.user_id, other.device_id)
    return room


async def test_a_backup_moves_to_another_processor(own_server, new_nio, monkeypatch):
    here, there = os.environ["TAYBERRY_BINARY"], os.environ["TAYBERRY_OTHER_BINARY"]
    alice, bob = await new_nio("alice"), await new_nio("bob")
    room = await meet(alice, bob)

    async def both_ways(text: str) -> None:
        for one, other in ((alice, bob), (bob, alice)):
            heard = await other.event(await one.say(room, text))
            assert (heard.body, heard.decrypted) == (text, True)

    await both_ways("before")
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    await both_ways("after a restart")
    data, kept, backups = (own_server.folder / name for name in ("data", "kept", "backups"))
    await done(here, "backup", backups, "--data-dir", data)
    await asyncio.to_thread(own_server.stop)
    assert await done(here, "verify", "--data-dir", data) == "Nothing is damaged.\n"

    # The folder itself is of use to a processor with words of the same size alone.
    data.rename(kept)
    opened = await operate(there, "verify", "--data-dir", kept)
    if os.environ["TAYBERRY_OTHER_WORD"] == "same":
        assert opened.returncode == 0, opened.stderr
    else:
        assert opened.returncode == 1
        assert "tayberry backup" in opened.stderr and "tayberry restore" in opened.stderr, opened.stderr

    await done(there, "restore", backups, "--data-dir", data)
    assert await done(there, "verify", "--data-dir", data) == "Nothing is damaged.\n"
    monkeypatch.setenv("TAYBERRY_BINARY", there)
    await asyncio.to_thread(own_server.start)
    await both_ways("on another processor")
