"""A device that matrix-js-sdk runs in a Node process of its own; every command is one of js/device.mjs."""

import asyncio
import itertools
import json
from pathlib import Path

from person import PASSWORD

JS = Path(__file__).parent / "js"
ids = itertools.count(1)


class JsDevice:
    """One login of one user: `await device.do("send", room=..., content=...)`."""

    def __init__(self, server, localpart: str):
        self.server = server
        self.localpart = localpart
        self.user_id = self.device_id = ""
        self.waiting: dict[int, asyncio.Future] = {}

    @classmethod
    async def enter(cls, server, localpart: str, known: bool = False) -> "JsDevice":
        """Registers the user, or logs in as a known one."""
        device = cls(server, localpart)
        log = open(server.folder / f"{localpart}.js.log", "ab")
        device.process = await asyncio.create_subprocess_exec(
            "node",
            str(JS / "device.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 24,
        )
        log.close()
        device.reader = asyncio.create_task(device.read())
        session = await device.do("enter", url=server.url, user=localpart, password=PASSWORD, known=known)
        device.user_id, device.device_id = session["user_id"], session["device_id"]
        return device

    async def another_login(self) -> "JsDevice":
        """The same user on a further device."""
        return await JsDevice.enter(self.server, self.localpart, known=True)

    async def do(self, command: str, **arguments):
        """Runs a command and returns its result."""
        number = next(ids)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": command, "with": arguments})
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()
        answer = await asyncio.wait_for(self.waiting[number], 60)
        assert "error" not in answer, f"{command}: {answer['error']}"
        return answer["result"]

    async def until(self, wanted, command: str, timeout_s: float = 30, **arguments):
        """Repeats a command until `wanted(result)` holds, and returns the result."""
        result = None
        try:
            async with asyncio.timeout(timeout_s):
                while not wanted(result := await self.do(command, **arguments)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{command} stays at {result}") from None
        return result

    async def message(self, room: str, event_id: str) -> dict:
        """The message, once this device can read it."""
        def readable(messages):
            return [m for m in messages if m["event_id"] == event_id and not m["failure"]]

        return readable(await self.until(readable, "messages", room=room))[0]

    async def say(self, room: str, body: str) -> str:
        return await self.do("send", room=room, content={"msgtype": "m.text", "body": body})

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            self.waiting.pop(answer["id"]).set_result(answer)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the device's process ended"))

    async def close(self) -> None:
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
        await self.reader
