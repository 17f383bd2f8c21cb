"""What `benches/memory` runs."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import nio
from nio_device import NioDevice
from person import CLIENT, PASSWORD, Person, part, until, until_true
from servers import Authority, MeetingTayberry

MEMBERS = 2_000
PEOPLE = 5
SAID = 20
LIMITS_MB = [64, 56, 48, 40, 36, 32, 28, 24, 20, 16]
# Whoever takes longer doesn't serve people.
TIMEOUT_S = 300


class Group:
    """A control group with a limit, of either version of the kernel's interface."""

    def __init__(self, limit_mb: int):
        old = Path("/sys/fs/cgroup/memory")
        root, limit = (old, "memory.limit_in_bytes") if old.exists() else (Path("/sys/fs/cgroup"), "memory.max")
        self.folder = root / f"tayberry-{os.getpid()}-{limit_mb}"
        self.folder.mkdir()
        try:
            (self.folder / limit).write_text(str(limit_mb << 20))
            # It doesn't get more by writing to a disk that is memory for others.
            for swap in ("memory.swap.max", "memory.swappiness"):
                if (self.folder / swap).exists():
                    (self.folder / swap).write_text("0")
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        self.folder.rmdir()


class Limited(MeetingTayberry):
    """A server in a control group, if there is one."""

    group: Group | None = None

    def command(self) -> list[str]:
        if self.group is None:
            return super().command()
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, str(self.group.folder), *super().command()]


async def populate(server: MeetingTayberry) -> list[str]:
    """Tokens of people enough for a large room."""
    async with few_at_once(server) as session:

        async def register(number: int) -> str:
            body = {"username": f"member{number}", "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
            async with session.post(f"{CLIENT}/register", json=body) as answer:
                return (await answer.json())["access_token"]

        return await asyncio.gather(*(register(number) for number in range(MEMBERS - 1)))


async def gather(owner: Person, tokens: list[str]) -> str:
    """A new room with all of them. Each trial has one: nobody in it is of a server that is gone."""
    room = await owner.create_room(preset=nio.RoomPreset.public_chat)
    async with few_at_once(owner.server) as session:

        async def join(token: str) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(f"{CLIENT}/join/{part(room)}", json={}, headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        await asyncio.gather(*(join(token) for token in tokens))
    return room


def few_at_once(server: MeetingTayberry) -> aiohttp.ClientSession:
    # Most of them wait for their turn, which may take longer than any answer.
    connector, timeout = aiohttp.TCPConnector(limit=4), aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S)
    return aiohttp.ClientSession(server.url, connector=connector, timeout=timeout)


async def live(server: Limited, owner: Person, large: str) -> None:
    """What the people of a small server do."""
    entering = (NioDevice.enter(server, f"person{n}", new_folder(server, n)) for n in range(PEOPLE))
    people = await asyncio.gather(*entering)
    try:
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room = await people[0].create_room(*people[1:], initial_state=[encryption])
        for device in people:
            await device.in_room(room)
            for other in people:
                if other is not device:
                    await device.device_of(other.user_id, other.device_id)
        await asyncio.gather(*(talk(device, people, room) for device in people))

        await people[0].do("POST", f"/join/{part(large)}", server_name=owner.server.name)
        for device in people[1:]:
            await device.do("POST", f"/join/{part(large)}")
        await asyncio.gather(*(whole_sync(device, large) for device in people))
        await both_ways(people[0], owner, large)
    finally:
        await asyncio.gather(*(device.close() for device in people), return_exceptions=True)


async def talk(device: NioDevice, people: list[NioDevice], room: str) -> None:
    """Says some things, each of which all others can read."""
    for number in range(SAID):
        sent = await device.say(room, f"{device.localpart} {number}")
        for other in people:
            if other is not device:
                assert (await other.event(sent)).decrypted


async def whole_sync(device: NioDevice, room: str) -> None:
    """A first sync that leaves nobody out."""
    state = (await device.get("/sync"))["rooms"]["join"][room]
    events = state["state"]["events"] + state["timeline"]["events"]
    members = {event["state_key"] for event in events if event["type"] == "m.room.member"}
    assert len(members) == MEMBERS + PEOPLE, len(members)


async def both_ways(device: NioDevice, owner: Person, room: str) -> None:
    """Each hears the other across their servers."""
    sent = await device.client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
    path = f"/rooms/{part(room)}/event/"

    async def arrived() -> bool:
        return (await owner.call("GET", path + part(sent.event_id))).status == 200

    await until_true(arrived, 60)
    answer = await owner.say(room, "welcome")
    await until(lambda: any(event.event_id == answer for event in device.heard), 60)


def new_folder(server: Limited, number: int) -> Path:
    folder = server.folder / f"nio{number}"
    folder.mkdir()
    return folder


async def watch(process: subprocess.Popen, most: dict[str, float]) -> None:
    """Notes the most memory that a process had, in MB, until it ends."""
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile", "VmSwap"):
                most[name] = max(most.get(name, 0), int(value.split()[0]) / 1024)
        await asyncio.sleep(0.02)


async def trial(limit_mb: int | None, folder: Path, authority: Authority, owner: Person, large: str) -> bool:
    """Whether a server lives through it all under a limit."""
    folder.mkdir()
    server = Limited(folder, authority)
    server.group = None if limit_mb is None else Group(limit_mb)
    most: dict[str, float] = {}
    tasks: set[asyncio.Task] = set()
    what = "no limit" if limit_mb is None else f"{limit_mb} MB"
    try:
        await asyncio.to_thread(server.start)
        living = asyncio.create_task(live(server, owner, large))
        tasks = {living, asyncio.create_task(watch(server.process, most))}
        # Clients would ask a server that ended for ever.
        await asyncio.wait(tasks, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}")
        if not living.done():
            raise TimeoutError
        await living
        assert not most["VmSwap"], f"{most['VmSwap']:.1f} MB of it were swapped out"
        print(f"{what}: works; most memory of its own {most['RssAnon']:.1f} MB, of files {most['RssFile']:.1f} MB", flush=True)
        return True
    except (AssertionError, OSError, TimeoutError, aiohttp.ClientError) as error:
        killed = server.process is not None and server.process.poll() == -signal.SIGKILL
        print(f"{what}: fails: {'the kernel killed it' if killed else repr(error)[:300]}", flush=True)
        print(*server.log_tail().splitlines()[-5:], sep="\n", flush=True)
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(server.stop)
        if server.group is not None:
            server.group.remove()
        shutil.rmtree(folder)


def limits() -> list[int | None]:
    """The limits to try; none where the kernel lets this user set none."""
    try:
        Group(64).remove()
    except OSError as error:
        print(f"no control group can be made, so there is no limit: {error}")
        return [None]
    return [int(word) for word in sys.argv[1:]] or LIMITS_MB


async def main() -> None:
    place = Path(tempfile.mkdtemp())
    authority = Authority(place)
    (place / "other").mkdir()
    other = MeetingTayberry(place / "other", authority)
    other.start()
    lowest = None
    try:
        owner, tokens = await Person.register(other, "owner"), await populate(other)
        for limit in limits():
            large = await gather(owner, tokens)
            if not await trial(limit, place / f"limit-{limit}", authority, owner, large):
                break
            lowest = limit
        await owner.close()
    finally:
        other.stop()
        shutil.rmtree(place)
    if lowest is None:
        sys.exit("no limit is known to work")
    print(f"lowest limit that works: {lowest} MB")


# That a device has no session with another yet.
logging.getLogger("nio").setLevel(logging.ERROR)
asyncio.run(main())
