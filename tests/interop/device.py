"""A device that a process of its own runs: it takes a command a line, and answers in any order."""

import asyncio
import itertools
import json

ids = itertools.count(1)


class Device:
    """One login of one user: `await device.do("say", room=..., body=...)`."""

    #: What the process is called in the name of its log.
    kind: str

    def __init__(self, server, localpart: str):
        self.server = server
        self.localpart = localpart
        self.user_id = self.device_id = ""
        self.waiting: dict[int, asyncio.Future] = {}

    async def spawn(self, *command) -> None:
        """Starts the process."""
        with open(self.server.folder / f"{self.localpart}.{self.kind}.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 24
            )
        self.reader = asyncio.create_task(self.read())

    async def enter(self, **arguments) -> None:
        """Has the device log in."""
        self.note(await self.do("enter", url=self.server.url, user=self.localpart, **arguments))

    def note(self, session: dict) -> None:
        """Writes down who is logged in."""
        self.user_id, self.device_id = session["user_id"], session["device_id"]

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

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            future = self.waiting.pop(answer["id"])
            # Whoever asked may have given up.
            if not future.done():
                future.set_result(answer)
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
