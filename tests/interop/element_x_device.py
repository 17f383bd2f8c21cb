"""A device that runs what Element X is made of, in a process of its own; every command is one of element-x/src/main.rs."""

import itertools
import os

from device import Device
from forms import Browser
from person import PASSWORD

numbers = itertools.count(1)


class ElementX(Device):
    kind = "element-x"

    def __init__(self, server, localpart: str):
        super().__init__(server, localpart)
        self.store = str(server.folder / f"element-x-{next(numbers)}")

    @classmethod
    async def start(cls, server, localpart: str, known: bool = False) -> "ElementX":
        """Registers the user, or logs in as a known one."""
        device = await cls(server, localpart).run()
        await device.enter(password=PASSWORD, known=known, store=device.store)
        return device

    @classmethod
    async def start_by_oauth(cls, server, localpart: str, known: bool = False) -> "ElementX":
        """The same on the pages of the server."""
        device = await cls(server, localpart).run()
        place = {"url": server.url, "store": device.store}
        browser = Browser("io.element.android:/")
        await browser.go("GET", await device.do("oauth_url", known=known, **place))
        fields = {"user": localpart, "password": PASSWORD}
        await browser.press(**fields if known else fields | {"again": PASSWORD})
        assert "Element X" in browser.page, browser.page
        callback = await browser.press(decision="allow")
        await browser.session.close()
        device.note(await device.do("oauth", callback=callback, **place))
        return device

    async def run(self) -> "ElementX":
        await self.spawn(os.environ["ELEMENT_X_BINARY"])
        return self

    async def come_back(self) -> None:
        """Starts the app again that was closed."""
        await self.run()
        self.note(await self.do("return", url=self.server.url, store=self.store))

    async def join(self, room: str) -> None:
        """Accepts an invitation, and opens the room."""
        await self.until(lambda shown: shown and shown["membership"] == "Invited", "room", room=room)
        await self.do("join", room=room)
        await self.open(room)

    async def open(self, room: str) -> None:
        await self.until(lambda shown: shown and shown["membership"] == "Joined", "room", room=room)
        await self.do("open", room=room)

    async def say(self, room: str, body: str) -> str:
        """Sends what nobody said in the room before."""
        await self.do("send", room=room, body=body)
        return await self.said(room, body)

    async def said(self, room: str, body: str, timeout_s: float = 30) -> str:
        """The event of what this device said, once the server has it."""
        def sent(messages):
            return [m["event_id"] for m in messages if m["body"] == body and m["event_id"]]

        return sent(await self.until(sent, "messages", timeout_s, room=room))[0]

    async def message(self, room: str, event_id: str) -> dict:
        """The message, once this device can read it."""
        def readable(messages):
            return [m for m in messages if m["event_id"] == event_id and not m["failed"]]

        return readable(await self.until(readable, "messages", room=room))[0]

    async def history(self, room: str) -> list[dict]:
        """All messages of the room, as somebody sees them who scrolls up to its begin."""
        while not await self.do("back", room=room, count=100):
            pass
        return await self.do("messages", room=room)
