"""Every test runs against Tayberry, and with TAYBERRY_TESTS=whole against Synapse as well, so that the test is known to be
right."""

import os

import pytest
from element_x_device import ElementX
from js_device import JsDevice
from nio_device import NioDevice
from person import Person
from servers import SERVERS


# It takes minutes to build what that runs: `tests/run element-x` does.
collect_ignore = [] if "ELEMENT_X_BINARY" in os.environ else ["test_element_x.py"]

KINDS = list(SERVERS) if os.environ.get("TAYBERRY_TESTS") == "whole" else ["tayberry"]


@pytest.fixture(scope="session", params=KINDS)
def server(request, tmp_path_factory):
    """A running server that the whole session shares; tests keep apart by using people of their own."""
    yield from running(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(params=KINDS)
def own_server(request, tmp_path):
    """A running server that the test may stop and kill."""
    yield from running(request.param, tmp_path)


def running(kind, folder):
    server = SERVERS[kind](folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def new_person(server):
    """Registers a person on the shared server: `await new_person()`."""
    known = []

    async def register(localpart=None):
        known.append(await Person.register(server, localpart))
        return known[-1]

    yield register
    for person in known:
        await person.close()


@pytest.fixture
async def alice(new_person):
    return await new_person()


@pytest.fixture
async def bob(new_person):
    return await new_person()


@pytest.fixture
async def new_js(own_server):
    """Starts a JavaScript client: `await new_js("alice")`, `await new_js("alice", known=True)`."""
    started = []

    async def enter(localpart, **how):
        started.append(await JsDevice.start(own_server, localpart, **how))
        return started[-1]

    yield enter
    for device in started:
        await device.close()


@pytest.fixture
async def new_element_x(own_server):
    """The same of what Element X is made of; `oauth=True` logs in on the server's pages."""
    started = []

    async def enter(localpart, oauth=False, **how):
        start = ElementX.start_by_oauth if oauth else ElementX.start
        started.append(await start(own_server, localpart, **how))
        return started[-1]

    yield enter
    for device in started:
        await device.close()


@pytest.fixture
async def new_nio(own_server, tmp_path):
    """The same of a nio client that encrypts."""
    started = []

    async def enter(localpart, known=False):
        folder = tmp_path / f"nio{len(started)}"
        folder.mkdir()
        started.append(await NioDevice.enter(own_server, localpart, folder, known))
        return started[-1]

    yield enter
    for device in started:
        await device.close()
