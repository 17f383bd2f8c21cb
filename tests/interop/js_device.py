"""A device that matrix-js-sdk runs in a Node process of its own; every command is one of js/device.mjs."""

from pathlib import Path

from device import Device
from person import PASSWORD

JS = Path(__file__).parent / "js"


class JsDevice(Device):
    kind = "js"

    @classmethod
    async def start(cls, server, localpart: str, known: bool = False, sliding: bool = False) -> "JsDevice":
        """Registers the user, or logs in as a known one; it syncs as Element does, or by sliding sync."""
        device = cls(server, localpart)
        await device.spawn("node", str(JS / "device.mjs"))
        await device.enter(password=PASSWORD, known=known, sliding=sliding)
        return device

    async def another_login(self) -> "JsDevice":
        """The same user on a further device."""
        return await JsDevice.start(self.server, self.localpart, known=True)

    async def message(self, room: str, event_id: str) -> dict:
        """The message, once this device can read it."""
        def readable(messages):
            return [m for m in messages if m["event_id"] == event_id and not m["failure"]]

        return readable(await self.until(readable, "messages", room=room))[0]

    async def say(self, room: str, body: str) -> str:
        return await self.do("send", room=room, content={"msgtype": "m.text", "body": body})
