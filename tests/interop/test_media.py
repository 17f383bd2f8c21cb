"""Media: uploads, downloads, thumbnails, and files that only the other end can read."""

import io
import os

import aiohttp
import nio
import pytest
from nio.crypto.attachments import decrypt_attachment
from person import Person, expect
from PIL import Image


async def upload(person, content: bytes, content_type="application/octet-stream", filename=None, encrypt=False):
    """Uploads through nio; returns the URI and, if nio encrypted the file, what decrypts it."""
    response, keys = await person.client.upload(
        lambda *_: io.BytesIO(content), content_type, filename, encrypt=encrypt, filesize=len(content)
    )
    return expect(response, nio.UploadResponse).content_uri, keys


async def download(person, uri: str, filename=None):
    return expect(await person.client.download(uri, filename), nio.MemoryDownloadResponse)


async def thumbnail(person, uri: str, width: int, height: int, method: str):
    server_name, media_id = uri.removeprefix("mxc://").split("/")
    got = await person.client.thumbnail(server_name, media_id, width, height, nio.ResizingMethod(method))
    return Image.open(io.BytesIO(expect(got, nio.ThumbnailResponse).body))


async def raw(person, method: str, path: str, body: bytes | None = None, **headers):
    """Status, headers and body of a plain request."""
    headers = {"Authorization": f"Bearer {person.token}", **headers}
    async with aiohttp.ClientSession() as session:
        async with session.request(method, person.server.url + path, data=body, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()


def picture(width: int, height: int, kind: str) -> bytes:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", (width, height), (0, 0, 250))
    image.paste((250, 0, 0), (0, 0, width // 2, height))
    encoded = io.BytesIO()
    image.save(encoded, kind)
    return encoded.getvalue()


async def test_what_one_uploads_another_downloads(alice, bob):
    content = os.urandom(300_000)
    uri, _ = await upload(alice, content, "audio/ogg", "a song.ogg")
    got = await download(bob, uri)
    assert (got.body, got.content_type, got.filename) == (content, "audio/ogg", "a song.ogg")
    assert (await download(bob, uri, "other.ogg")).filename == "other.ogg"


async def test_an_encrypted_file_in_a_room(alice, bob):
    room = await alice.create_room(bob)
    await bob.client.sync(full_state=True)
    content = os.urandom(200_000)
    uri, keys = await upload(alice, content, "image/png", encrypt=True)
    message = {"msgtype": "m.image", "body": "secret.png", "file": {"url": uri, **keys}}
    expect(await alice.client.room_send(room, "m.room.message", message), nio.RoomSendResponse)

    await bob.client.sync(timeout=10_000)
    events = (await bob.get(f"/rooms/{room}/messages", dir="b", limit="1"))["chunk"]
    file = events[0]["content"]["file"]
    ciphertext = (await download(bob, file["url"])).body
    assert ciphertext != content
    assert decrypt_attachment(ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"]) == content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
async def test_thumbnails(alice, bob, kind):
    uri, _ = await upload(alice, picture(1_000, 500, kind), f"image/{kind.lower()}")
    for width, height, method, size in [
        (32, 32, "crop", (32, 32)),
        (96, 96, "crop", (96, 96)),
        (320, 240, "scale", (320, 160)),
        (640, 480, "scale", (640, 320)),
    ]:
        made = await thumbnail(bob, uri, width, height, method)
        assert made.size == size
        red, _, blue = made.convert("RGB").getpixel((2, size[1] // 2))
        assert red > 180 and blue < 90


async def test_a_file_that_is_announced_before_it_is_uploaded(alice, bob):
    created = await alice.do("POST", "/_matrix/media/v1/create")
    name = created["content_uri"].removeprefix("mxc://")
    download_path = f"/_matrix/client/v1/media/download/{name}?timeout_ms=0"
    status, _, _ = await raw(bob, "GET", download_path)
    assert status == 504
    path = f"/_matrix/media/v3/upload/{name}"
    status, _, _ = await raw(alice, "PUT", path, b"at last", **{"Content-Type": "text/plain"})
    assert status == 200
    assert (await download(bob, created["content_uri"])).body == b"at last"
    status, _, _ = await raw(alice, "PUT", path, b"again")
    assert status == 409


async def test_the_configuration(alice):
    config = expect(await alice.client.content_repository_config(), nio.ContentRepositoryConfigResponse)
    await upload(alice, bytes(min(config.upload_size, 20_000_000)))


async def test_without_a_token_there_is_nothing(alice):
    uri, _ = await upload(alice, b"private", "text/plain")
    name = uri.removeprefix("mxc://")
    async with aiohttp.ClientSession() as session:
        for path, status in [
            (f"/_matrix/client/v1/media/download/{name}", 401),
            (f"/_matrix/media/v3/download/{name}", 404),
        ]:
            async with session.get(alice.server.url + path) as answer:
                assert answer.status == status, path


async def test_an_avatar_and_a_restart(own_server):
    alice = await Person.register(own_server)
    content = picture(400, 400, "PNG")
    uri, _ = await upload(alice, content, "image/png")
    expect(await alice.client.set_avatar(uri), nio.ProfileSetAvatarResponse)
    own_server.kill()
    own_server.start()
    assert (await alice.client.get_avatar()).avatar_url == uri
    assert (await download(alice, uri)).body == content
    assert (await thumbnail(alice, uri, 96, 96, "crop")).size == (96, 96)
    await alice.close()
