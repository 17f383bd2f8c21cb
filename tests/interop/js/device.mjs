// One device of one user, run by matrix-js-sdk with Rust cryptography. It takes a command a line on the standard
// input, {"id", "do", "with"}, and answers with {"id", "result"} or {"id", "error"} on the standard output.

import { createInterface } from "node:readline";
import { createClient, EventType, Method, RelationType, SyncState } from "matrix-js-sdk";
import {
    CryptoEvent,
    VerificationPhase,
    VerifierEvent,
    decodeRecoveryKey,
} from "matrix-js-sdk/lib/crypto-api/index.js";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { SlidingSync, SlidingSyncEvent } from "matrix-js-sdk/lib/sliding-sync.js";
import { Attachment, EncryptedAttachment } from "@matrix-org/matrix-sdk-crypto-wasm";

// The standard output is for answers.
for (const level of ["log", "info", "debug", "trace", "warn"]) console[level] = console.error;
logger.setLevel?.("error");

const SAS = "m.sas.v1";
// What Element wants to know of each room in the list.
const LISTED_STATE = [
    ["m.room.create", ""],
    ["m.room.encryption", ""],
    ["m.room.join_rules", ""],
    ["m.room.tombstone", ""],
    ["m.room.member", "$ME"],
    ["m.room.member", "$LAZY"],
];
let client;
let storageKey;
// Instead of /sync, if the device was started so, and the errors that it was answered with.
let slidingSync;
const refused = [];
// What each verification showed to compare, in order.
const compared = [];

const commands = {
    // Registers a user, or logs in as one on a further device, and starts to sync.
    async enter({ url, user, password, known, sliding }) {
        const plain = createClient({ baseUrl: url });
        const session = known
            ? await plain.loginRequest({
                  type: "m.login.password",
                  identifier: { type: "m.id.user", user },
                  password,
              })
            : await plain.registerRequest({ username: user, password, auth: { type: "m.login.dummy" } });
        client = createClient({
            baseUrl: url,
            userId: session.user_id,
            deviceId: session.device_id,
            accessToken: session.access_token,
            timelineSupport: true,
            verificationMethods: [SAS],
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => storageKey && [Object.keys(keys)[0], storageKey],
                cacheSecretStorageKey: (_, __, key) => void (storageKey = key),
            },
        });
        await client.initRustCrypto({ useIndexedDB: false });
        if (sliding) {
            const lists = new Map([["all", { ranges: [[0, 19]], timeline_limit: 20, required_state: LISTED_STATE }]]);
            const open = { timeline_limit: 50, required_state: [["*", "*"]] };
            slidingSync = new SlidingSync(url, lists, open, client, 3000);
            slidingSync.on(SlidingSyncEvent.Lifecycle, (state, response, error) => error && refused.push(error.errcode));
        }
        await client.startClient({ initialSyncLimit: 50, threadSupport: true, pollTimeout: 3000, slidingSync });
        await until(() => client.getSyncState() === SyncState.Prepared || client.getSyncState() === SyncState.Syncing);
        return { user_id: session.user_id, device_id: session.device_id };
    },

    async create_room({ invite, encrypted }) {
        const content = { algorithm: "m.megolm.v1.aes-sha2" };
        const room = await client.createRoom({
            preset: "private_chat",
            invite,
            initial_state: encrypted ? [{ type: "m.room.encryption", state_key: "", content }] : [],
        });
        await until(() => client.getRoom(room.room_id));
        return room.room_id;
    },

    async join({ room }) {
        await client.joinRoom(room);
        await until(() => client.getRoom(room)?.getMyMembership() === "join");
    },

    // What a client does that opens a room, and where the list is scrolled to.
    async look_into({ room }) {
        slidingSync.modifyRoomSubscriptions(slidingSync.getRoomSubscriptions().add(room));
    },

    async scroll({ ranges }) {
        slidingSync.setListRanges("all", ranges);
    },

    // The names of all known rooms, those where something happened last first, and how many the server says there are.
    async rooms() {
        const rooms = client.getRooms().sort((a, b) => (b.getBumpStamp() ?? 0) - (a.getBumpStamp() ?? 0));
        const names = rooms.map((room) => room.name);
        return { names, count: slidingSync.getListData("all").joinedCount, refused };
    },

    async membership({ room }) {
        return client.getRoom(room)?.getMyMembership() ?? null;
    },

    // Waits until this device knows the other as a member, so that it encrypts for them.
    async knows_member({ room, user }) {
        await until(() => client.getRoom(room)?.getMember(user)?.membership === "join");
    },

    // Encrypts what follows in the room with a key that nobody has yet.
    async renew_session({ room }) {
        await client.getCrypto().forceDiscardSession(room);
    },

    async send({ room, content, type }) {
        return (await client.sendEvent(room, type ?? EventType.RoomMessage, content)).event_id;
    },

    async reply_in_thread({ room, root, body }) {
        return (await client.sendMessage(room, root, { msgtype: "m.text", body })).event_id;
    },

    // All messages that this device could read, oldest first; one it could not decrypt has `failure`.
    async messages({ room }) {
        const found = new Map();
        const view = client.getRoom(room);
        for (const set of view ? [view.getUnfilteredTimelineSet(), ...view.getThreads().map((t) => t.timelineSet)] : []) {
            for (const event of set.getLiveTimeline().getEvents()) {
                await client.decryptEventIfNeeded(event);
                if (event.getType() !== EventType.RoomMessage && !event.isDecryptionFailure()) continue;
                found.set(event.getId(), {
                    event_id: event.getId(),
                    sender: event.getSender(),
                    body: event.getContent().body,
                    content: event.getContent(),
                    encrypted: event.isEncrypted(),
                    edited: event.replacingEventId() ?? null,
                    thread: event.threadRootId ?? null,
                    redacted: event.isRedacted(),
                    failure: event.decryptionFailureReason,
                });
            }
        }
        return [...found.values()];
    },

    // How often each key was set as a reaction to the event.
    async reactions({ room, event }) {
        const set = client.getRoom(room).getUnfilteredTimelineSet();
        const relations = set.relations.getChildEventsForEvent(event, RelationType.Annotation, EventType.Reaction);
        const sorted = relations?.getSortedAnnotationsByKey() ?? [];
        return Object.fromEntries(sorted.map(([key, events]) => [key, events.size]));
    },

    async read({ room, event }) {
        const view = client.getRoom(room);
        await client.sendReadReceipt(view.findEventById(event));
    },

    // The newest event that the user has read, as this device was told.
    async read_by({ room, user }) {
        return client.getRoom(room)?.getEventReadUpTo(user, true) ?? null;
    },

    async unread({ room }) {
        const view = client.getRoom(room);
        return {
            total: view.getRoomUnreadNotificationCount("total") ?? 0,
            highlight: view.getRoomUnreadNotificationCount("highlight") ?? 0,
            threads: Object.fromEntries(
                view.getThreads().map(({ id }) => [
                    id,
                    ["total", "highlight"].map((kind) => view.getThreadUnreadNotificationCount(id, kind) ?? 0),
                ]),
            ),
        };
    },

    // Cross-signing, secret storage and a key backup, as a client sets them up for a new user.
    async set_up_recovery({ password }) {
        const crypto = client.getCrypto();
        const authUploadDeviceSigningKeys = async (upload) => {
            try {
                await upload(null);
            } catch (error) {
                const user = client.getUserId();
                const identifier = { type: "m.id.user", user };
                await upload({ type: "m.login.password", identifier, password, session: error.data.session });
            }
        };
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys });
        const key = await crypto.createRecoveryKeyFromPassphrase();
        storageKey = key.privateKey;
        await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => key, setupNewKeyBackup: true });
        return key.encodedPrivateKey;
    },

    // How many sessions the backup holds that the server keeps.
    async backed_up() {
        return (await client.http.authedRequest(Method.Get, "/room_keys/version")).count;
    },

    async restore({ recovery_key }) {
        storageKey = decodeRecoveryKey(recovery_key);
        await client.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
        return (await client.getCrypto().restoreKeyBackup()).imported;
    },

    // Verifies a device, another user in a room they share, or this user's other devices, by comparing short strings.
    async verify({ user, device, room }) {
        const crypto = client.getCrypto();
        const request = device
            ? await crypto.requestDeviceVerification(user, device)
            : user
              ? await crypto.requestVerificationDM(user, room)
              : await crypto.requestOwnUserVerification();
        await until(() => request.phase === VerificationPhase.Ready);
        await compare(await request.startVerification(SAS));
        return compared.at(-1);
    },

    // From now on, this device takes part in verifications that others begin.
    async answer_verifications() {
        client.on(CryptoEvent.VerificationRequestReceived, accept);
    },

    async compared() {
        return compared;
    },

    // What this device believes of a user, and of one of their devices.
    async trust({ user, device }) {
        const crypto = client.getCrypto();
        const status = await crypto.getDeviceVerificationStatus(user, device);
        return {
            user: (await crypto.getUserVerificationStatus(user)).isCrossSigningVerified(),
            device: status?.crossSigningVerified ?? false,
            here: status?.localVerified ?? false,
        };
    },

    async knows_device({ user, device }) {
        const known = await client.getCrypto().getUserDeviceInfo([user], true);
        return known.get(user)?.has(device) ?? false;
    },

    async upload({ base64, type }) {
        return (await client.uploadContent(Buffer.from(base64, "base64"), { type })).content_uri;
    },

    // Uploads what the other end gets the means to read by.
    async upload_encrypted({ base64 }) {
        const encrypted = Attachment.encrypt(Buffer.from(base64, "base64"));
        const { content_uri: url } = await client.uploadContent(Buffer.from(encrypted.encryptedData));
        return { url, ...JSON.parse(encrypted.mediaEncryptionInfo) };
    },

    // Downloads a file, and decrypts it if there is a `file` that says how.
    async download({ url, file }) {
        const from = client.mxcUrlToHttp(file?.url ?? url, undefined, undefined, undefined, false, true, true);
        const answer = await fetch(from, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
        if (!answer.ok) throw new Error(`${from}: ${answer.status}`);
        let content = new Uint8Array(await answer.arrayBuffer());
        if (file) content = Attachment.decrypt(new EncryptedAttachment(content, JSON.stringify(file)));
        return { base64: Buffer.from(content).toString("base64"), type: answer.headers.get("content-type") };
    },

    // Asks the server at once after it was away, as a client does that is told of its network.
    async retry() {
        await until(() => client.retryImmediately() || client.getSyncState() === SyncState.Syncing);
    },
};

// Accepts a verification that somebody else began, and takes part in it.
async function accept(request) {
    await request.accept();
    const verifier = await until(() => request.phase === VerificationPhase.Started && request.verifier);
    await compare(verifier);
}

// Confirms what the verification shows; the test compares what both sides showed.
async function compare(verifier) {
    const shown = new Promise((resolve) => {
        const now = verifier.getShowSasCallbacks();
        if (now) resolve(now);
        else verifier.once(VerifierEvent.ShowSas, resolve);
    });
    const done = verifier.verify();
    const sas = await shown;
    compared.push(sas.sas.decimal);
    await sas.confirm();
    await done;
}

async function until(condition) {
    for (;;) {
        const result = condition();
        if (result) return result;
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

process.on("unhandledRejection", (error) => console.error("unhandled", error));

for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: name, with: arguments_ } = JSON.parse(line);
    commands[name](arguments_ ?? {})
        .then((result) => ({ id, result: result ?? null }))
        .catch((error) => ({ id, error: String(error.stack ?? error) }))
        .then((answer) => process.stdout.write(JSON.stringify(answer) + "\n"));
}
process.exit(0);
