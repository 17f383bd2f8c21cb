"""A device that matrix-nio runs with its own cryptography, and what of a verification nio leaves to who uses it."""

import asyncio
import time

import nio
from nio.events.to_device import KeyVerificationEvent, UnknownToDeviceEvent
from person import PASSWORD, Person, expect, until

SAS = "m.sas.v1"


class NioDevice(Person):
    """One login of one user, in step with the server: what it was told of rooms is in `heard`, oldest first."""

    @classmethod
    async def enter(cls, server, localpart: str, folder, known: bool = False) -> "NioDevice":
        """Registers the user, or logs in as a known one."""
        config = nio.AsyncClientConfig(encryption_enabled=True, backoff_factor=0.05, max_timeout_retry_wait_time=0.5)
        client = nio.AsyncClient(server.url, localpart, store_path=str(folder), config=config)
        if known:
            client.user_id = f"@{localpart}:{server.name}"
            expect(await client.login(PASSWORD, "nio"), nio.LoginResponse)
        else:
            expect(await client.register(localpart, PASSWORD, "nio"), nio.RegisterResponse)
        device = cls(server, client, localpart)
        device.heard, device.compared, device.offers = [], [], {}
        client.add_event_callback(lambda room, event: device.heard.append(event), nio.Event)
        client.add_to_device_callback(device.take_part, (UnknownToDeviceEvent, KeyVerificationEvent))
        expect(await client.sync(full_state=True), nio.SyncResponse)
        device.loop = asyncio.create_task(client.sync_forever(timeout=3_000))
        return device

    async def send(self, room: str, content: dict, kind: str = "m.room.message") -> str:
        sent = await self.client.room_send(room, kind, content, ignore_unverified_devices=True)
        return expect(sent, nio.RoomSendResponse).event_id

    async def say(self, room: str, text: str) -> str:
        return await self.send(room, {"msgtype": "m.text", "body": text})

    async def event(self, event_id: str) -> nio.Event:
        """The event, once this device can read it."""
        def readable():
            return [e for e in self.heard if e.event_id == event_id and not isinstance(e, nio.MegolmEvent)]

        return (await until(readable))[0]

    async def in_room(self, room: str, encrypted: bool = True) -> nio.MatrixRoom:
        """The room, once this device knows how to send to it."""
        rooms = self.client.rooms
        return await until(lambda: room in rooms and rooms[room].encrypted == encrypted and rooms[room])

    async def device_of(self, user: str, device_id: str) -> nio.crypto.OlmDevice:
        """Another's device, once this one knows it."""
        known = self.client.device_store
        return await until(lambda: device_id in known[user] and known[user][device_id])

    async def verify(self, user: str, device_id: str) -> None:
        """Asks another device to compare short strings; what this one shows comes to be in `compared`."""
        start = self.client.create_key_verification(await self.device_of(user, device_id))
        transaction = start.content["transaction_id"]
        self.offers[transaction] = start
        now = int(time.time() * 1_000)
        await self.tell(user, device_id, "request", transaction, methods=[SAS], timestamp=now)

    async def take_part(self, event) -> None:
        """Does its part of a verification; whoever tests compares what both sides showed."""
        kind, content = event.source["type"].removeprefix("m.key.verification."), event.source["content"]
        transaction = content.get("transaction_id")
        sas = self.client.key_verifications.get(transaction)
        # How far this device is, before what nio has queued is sent by its loop.
        if kind == "request":
            await self.tell(event.sender, content["from_device"], "ready", transaction, methods=[SAS])
        elif kind == "ready":
            expect(await self.client.to_device(self.offers[transaction]), nio.ToDeviceResponse)
        elif kind == "start":
            expect(await self.client.accept_key_verification(transaction), nio.ToDeviceResponse)
        elif kind == "key":
            await self.client.send_to_device_messages()
            self.compared.append(list(sas.get_decimals()))
            expect(await self.client.confirm_short_auth_string(transaction), nio.ToDeviceResponse)
        if kind in ("key", "mac") and sas.verified:
            await self.tell(event.sender, sas.other_olm_device.id, "done", transaction)
        assert kind != "cancel", content

    async def tell(self, user: str, device_id: str, kind: str, transaction: str, **content) -> None:
        """Sends a step that nio has no function for."""
        content |= {"from_device": self.device_id, "transaction_id": transaction}
        message = nio.ToDeviceMessage(f"m.key.verification.{kind}", user, device_id, content)
        expect(await self.client.to_device(message), nio.ToDeviceResponse)

    async def close(self) -> None:
        self.loop.cancel()
        ended = await asyncio.gather(self.loop, return_exceptions=True)
        await super().close()
        assert isinstance(ended[0], asyncio.CancelledError), ended
