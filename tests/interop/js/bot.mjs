// A bot of matrix-bot-sdk: it joins where it is invited, and answers what it is asked.
// Arguments: the server's URL, the access token. It says "ready" once it listens.

import sdk from "matrix-bot-sdk";

const { AutojoinRoomsMixin, LogLevel, LogService, MatrixClient, MemoryStorageProvider } = sdk;
const [url, token] = process.argv.slice(2);

LogService.setLevel(LogLevel.ERROR);
const client = new MatrixClient(url, token, new MemoryStorageProvider());
AutojoinRoomsMixin.setupOnClient(client);
client.on("room.message", async (room, event) => {
    if (event.sender !== (await client.getUserId()) && event.content?.body?.startsWith("!echo ")) {
        await client.replyText(room, event, event.content.body.slice("!echo ".length));
    }
});
await client.start();
console.log("ready");
