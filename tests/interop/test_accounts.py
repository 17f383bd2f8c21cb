"""Accounts, sessions and devices."""

import nio
import pytest
from person import PASSWORD, Person, expect, new_client, part, request


async def test_an_unauthenticated_client_learns_what_the_server_offers(server):
    versions = await request(server, "GET", "/_matrix/client/versions")
    assert versions.status == 200
    assert "v1.11" in versions.body["versions"]

    client = new_client(server)
    flows = expect(await client.login_info(), nio.LoginInfoResponse)
    await client.close()
    assert "m.login.password" in flows.flows


async def test_registration_is_interactive(server):
    body = {"username": "interactive", "password": PASSWORD}
    first = await request(server, "POST", "/register", body)
    assert first.status == 401
    assert ["m.login.dummy"] in [flow["stages"] for flow in first.body["flows"]]

    body["auth"] = {"type": "m.login.dummy", "session": first.body["session"]}
    done = await request(server, "POST", "/register", body)
    assert done.status == 200, done
    assert done.body["user_id"] == f"@interactive:{server.name}"
    assert done.body["access_token"] and done.body["device_id"]


async def test_a_user_name_is_given_once(server, new_person):
    free = await request(server, "GET", "/register/available", username="onlyone")
    assert (free.status, free.body.get("available")) == (200, True)

    await new_person("onlyone")
    taken = await request(server, "GET", "/register/available", username="onlyone")
    assert (taken.status, taken.errcode) == (400, "M_USER_IN_USE")
    again = await request(
        server,
        "POST",
        "/register",
        {"username": "onlyone", "password": PASSWORD, "auth": {"type": "m.login.dummy"}},
    )
    assert (again.status, again.errcode) == (400, "M_USER_IN_USE")


@pytest.mark.parametrize("name", ["with space", "ümlaut", "colon:colon"])
async def test_a_user_name_follows_the_grammar(server, name):
    body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    refused = await request(server, "POST", "/register", body)
    assert (refused.status, refused.errcode) == (400, "M_INVALID_USERNAME")


async def test_registration_without_login_gives_no_token(server):
    body = {"username": "nologin", "password": PASSWORD, "inhibit_login": True, "auth": {"type": "m.login.dummy"}}
    done = await request(server, "POST", "/register", body)
    assert done.status == 200, done
    assert "access_token" not in done.body and not done.body.get("device_id")

    person = Person(server, new_client(server, "nologin"), "nologin")
    expect(await person.client.login(PASSWORD), nio.LoginResponse)
    await person.close()


async def test_login_by_name_and_by_user_id(server, alice):
    for user in (alice.localpart, alice.user_id):
        client = new_client(server, user)
        login = expect(await client.login(PASSWORD, "by name"), nio.LoginResponse)
        who = expect(await client.whoami(), nio.WhoamiResponse)
        await client.close()
        assert (who.user_id, who.device_id) == (alice.user_id, login.device_id)
        assert login.device_id != alice.device_id


async def test_wrong_password_and_unknown_user_look_alike(server, alice):
    users = (alice.user_id, f"@nobody:{server.name}")
    wrong, unknown = [await refused_login(server, user, "wrong") for user in users]
    assert wrong.status_code == unknown.status_code == "M_FORBIDDEN"
    assert wrong.message == unknown.message


async def test_a_call_needs_a_token_that_exists(server):
    missing = await request(server, "GET", "/account/whoami")
    assert (missing.status, missing.errcode) == (401, "M_MISSING_TOKEN")
    unknown = await request(server, "GET", "/account/whoami", token="syt_nonsense")
    assert (unknown.status, unknown.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_unknown_paths_and_methods(server):
    nowhere = await request(server, "GET", "/no/such/endpoint")
    assert (nowhere.status, nowhere.errcode) == (404, "M_UNRECOGNIZED")
    wrong = await request(server, "DELETE", "/login")
    assert (wrong.status, wrong.errcode) == (405, "M_UNRECOGNIZED")


async def test_devices_are_listed_and_renamed(alice):
    other = await alice.another_login("the phone")
    listed = expect(await alice.client.devices(), nio.DevicesResponse)
    assert {device.id: device.display_name for device in listed.devices} == {
        alice.device_id: "first device",
        other.device_id: "the phone",
    }

    renamed = await alice.client.update_device(other.device_id, {"display_name": "the old phone"})
    expect(renamed, nio.UpdateDeviceResponse)
    one = await alice.get(f"/devices/{part(other.device_id)}")
    assert one["display_name"] == "the old phone"
    absent = await alice.call("GET", "/devices/NOSUCH")
    assert (absent.status, absent.errcode) == (404, "M_NOT_FOUND")
    await other.close()


async def test_devices_are_deleted_after_the_password(alice):
    other = await alice.another_login()
    asked = expect(await alice.client.delete_devices([other.device_id]), nio.DeleteDevicesAuthResponse)
    assert any("m.login.password" in flow["stages"] for flow in asked.flows)
    assert (await other.call("GET", "/account/whoami")).status == 200

    wrong = await alice.client.delete_devices([other.device_id], alice.password_auth(asked.session, "wrong"))
    assert not isinstance(wrong, nio.DeleteDevicesResponse)
    assert (await other.call("GET", "/account/whoami")).status == 200

    done = await alice.client.delete_devices([other.device_id], alice.password_auth(asked.session))
    expect(done, nio.DeleteDevicesResponse)
    gone = await other.call("GET", "/account/whoami")
    assert (gone.status, gone.errcode) == (401, "M_UNKNOWN_TOKEN")
    listed = expect(await alice.client.devices(), nio.DevicesResponse)
    assert [device.id for device in listed.devices] == [alice.device_id]
    await other.close()


async def test_one_device_is_deleted_after_the_password(alice):
    other = await alice.another_login()
    path = f"/devices/{part(other.device_id)}"
    asked = await alice.call("DELETE", path, {})
    assert asked.status == 401
    await alice.do("DELETE", path, {"auth": alice.password_auth(asked.body["session"])})
    assert (await other.call("GET", "/account/whoami")).status == 401
    await other.close()


async def test_refreshed_tokens_replace_their_predecessors(server, alice):
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.localpart},
        "password": PASSWORD,
        "refresh_token": True,
    }
    login = await request(server, "POST", "/login", body)
    assert login.status == 200, login
    assert login.body["expires_in_ms"] > 0

    fresh = await request(server, "POST", "/refresh", {"refresh_token": login.body["refresh_token"]})
    assert fresh.status == 200, fresh
    assert fresh.body["access_token"] != login.body["access_token"]
    who = await request(server, "GET", "/account/whoami", token=fresh.body["access_token"])
    assert (who.status, who.body.get("device_id")) == (200, login.body["device_id"])

    stale = await request(server, "POST", "/refresh", {"refresh_token": login.body["refresh_token"]})
    assert stale.status in (401, 403), stale
    next_one = await request(server, "POST", "/refresh", {"refresh_token": fresh.body["refresh_token"]})
    assert next_one.status == 200, next_one


async def test_a_login_without_refresh_tokens_has_none(server, alice):
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.localpart},
        "password": PASSWORD,
    }
    login = await request(server, "POST", "/login", body)
    assert login.status == 200
    assert "refresh_token" not in login.body and "expires_in_ms" not in login.body


@pytest.mark.parametrize("logout_devices", [True, False])
async def test_a_new_password(alice, logout_devices):
    other = await alice.another_login()
    body = {"new_password": "a new pass phrase", "logout_devices": logout_devices}
    asked = await alice.call("POST", "/account/password", body)
    assert asked.status == 401
    assert any("m.login.password" in flow["stages"] for flow in asked.body["flows"])
    await alice.do("POST", "/account/password", body | {"auth": alice.password_auth(asked.body["session"])})

    assert (await alice.call("GET", "/account/whoami")).status == 200
    assert (await other.call("GET", "/account/whoami")).status == (401 if logout_devices else 200)
    await refused_login(alice.server, alice.user_id, PASSWORD)
    alice.password = "a new pass phrase"
    again = await alice.another_login()
    await again.close()
    await other.close()


async def test_logout_ends_one_session(alice):
    other = await alice.another_login()
    expect(await other.client.logout(), nio.LogoutResponse)
    listed = expect(await alice.client.devices(), nio.DevicesResponse)
    assert [device.id for device in listed.devices] == [alice.device_id]
    await other.close()


async def test_logout_everywhere_ends_all_sessions(alice):
    other = await alice.another_login()
    tokens = [alice.token, other.token]
    await alice.do("POST", "/logout/all")
    for token in tokens:
        gone = await request(alice.server, "GET", "/account/whoami", token=token)
        assert (gone.status, gone.errcode) == (401, "M_UNKNOWN_TOKEN")
    await other.close()


async def test_a_deactivated_account_is_closed_and_its_name_stays_taken(server, alice):
    asked = await alice.call("POST", "/account/deactivate", {})
    assert asked.status == 401
    await alice.do("POST", "/account/deactivate", {"auth": alice.password_auth(asked.body["session"])})

    gone = await alice.call("GET", "/account/whoami")
    assert (gone.status, gone.errcode) == (401, "M_UNKNOWN_TOKEN")
    await refused_login(server, alice.user_id, PASSWORD)
    taken = await request(server, "GET", "/register/available", username=alice.localpart)
    assert (taken.status, taken.errcode) == (400, "M_USER_IN_USE")


async def test_capabilities(alice):
    capabilities = (await alice.get("/capabilities"))["capabilities"]
    versions = capabilities["m.room_versions"]
    assert versions["available"][versions["default"]] == "stable"
    assert {"10", "11", "12"} <= versions["available"].keys()
    assert capabilities.get("m.change_password", {"enabled": True})["enabled"] is True


async def test_profile_of_another(alice, bob):
    expect(await alice.client.set_displayname("Alice in Wonderland"), nio.ProfileSetDisplayNameResponse)
    expect(await alice.client.set_avatar("mxc://localhost/abcdef"), nio.ProfileSetAvatarResponse)
    seen = expect(await bob.client.get_profile(alice.user_id), nio.ProfileGetResponse)
    assert (seen.displayname, seen.avatar_url) == ("Alice in Wonderland", "mxc://localhost/abcdef")

    other = await bob.call("PUT", f"/profile/{part(alice.user_id)}/displayname", {"displayname": "Mallory"})
    assert other.errcode == "M_FORBIDDEN", other
    nobody = await bob.call("GET", f"/profile/{part('@nobody:' + alice.server.name)}")
    assert nobody.status == 404, nobody


async def test_accounts_and_sessions_survive_a_restart_and_a_crash(own_server):
    alice = await Person.register(own_server, "alice")
    own_server.stop()
    own_server.start()
    bob = await Person.register(own_server, "bob")
    expect(await bob.client.set_displayname("Bob"), nio.ProfileSetDisplayNameResponse)
    phone = await alice.another_login("the phone")
    own_server.kill()
    own_server.start()

    for person in (alice, bob, phone):
        who = expect(await person.client.whoami(), nio.WhoamiResponse)
        assert (who.user_id, who.device_id) == (person.user_id, person.device_id)
    listed = expect(await alice.client.devices(), nio.DevicesResponse)
    assert {device.id for device in listed.devices} == {alice.device_id, phone.device_id}
    seen = expect(await alice.client.get_profile(bob.user_id), nio.ProfileGetResponse)
    assert seen.displayname == "Bob"
    for person in (alice, bob, phone):
        await person.close()


async def refused_login(server, user: str, password: str) -> nio.LoginError:
    client = new_client(server, user)
    refusal = expect(await client.login(password), nio.LoginError)
    await client.close()
    return refusal
