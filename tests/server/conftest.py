"""One real ComfyUI for all server tests, with this pack linked into it."""

from collections.abc import Iterator

import pytest
from magic141.tests.support.any_graph import any_graph_server
from magic141.tools.client import ComfyClient
from magic141.tools.server import ComfyServer, terminate_as_interrupt


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    with terminate_as_interrupt(), ComfyServer(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, dict]:
    return ComfyClient(server.url).object_info()


@pytest.fixture
def client(server: ComfyServer) -> Iterator[ComfyClient]:
    """A browser tab; after each test the server must still answer."""
    yield ComfyClient(server.url)
    assert server.answers(), f"The server went down:\n{server.log_tail()}"


@pytest.fixture(scope="session")
def graph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server that has the made-up nodes too."""
    with terminate_as_interrupt(), any_graph_server(tmp_path_factory.mktemp("any_graph")) as server:
        yield server


@pytest.fixture
def tab(graph_server: ComfyServer) -> Iterator[ComfyClient]:
    """A browser tab of it; after each test the server must still answer."""
    yield ComfyClient(graph_server.url)
    assert graph_server.answers(), graph_server.log_tail()
