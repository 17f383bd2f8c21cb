// A provider of OpenID Connect, of the package oidc-provider: whoever signs in is believed.
// Arguments: its port, the redirect URI of its client. It says "ready" once it listens.

import Provider from "oidc-provider";

const [port, redirectUri] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
    clients: [{ client_id: "tayberry", client_secret: "n0rth & s0uth", redirect_uris: [redirectUri] }],
    claims: { profile: ["name", "preferred_username"] },
    findAccount: (_, id) => ({
        accountId: id,
        claims: () => ({ sub: id, preferred_username: id, name: `${id} of the provider` }),
    }),
    pkce: { required: () => true },
});
provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
