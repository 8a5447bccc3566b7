"""One real ComfyUI for all server tests, with this pack linked into it."""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from magic141.tests.support.any_graph import any_graph_server
from magic141.tests.support.template_graphs import write_wan
from magic141.tools.client import ComfyClient
from magic141.tools.host import use_comfyui
from magic141.tools.server import PACK, ComfyServer, link_folder, make_base_folder, terminate_as_interrupt


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
    """A server that has the made-up nodes and a GGUF loader too, and small random weights of Wan."""
    base = tmp_path_factory.mktemp("any_graph")
    use_comfyui()
    write_wan(base / "models")
    make_base_folder(base, PACK)
    link_folder(base / "custom_nodes/gguf_pack", PACK / "tests/support/gguf_pack")
    with terminate_as_interrupt(), any_graph_server(base) as server:
        yield server


@pytest.fixture
def tab(graph_server: ComfyServer) -> Iterator[ComfyClient]:
    """A browser tab of it; after each test the server must still answer."""
    yield ComfyClient(graph_server.url)
    assert graph_server.answers(), graph_server.log_tail()


@pytest.fixture(scope="session")
def servers_before(graph_server: ComfyServer, tmp_path_factory) -> Iterator[Callable[[], ComfyServer]]:
    """Returns a server that makes its runs where ``graph_server`` will find them, as after a restart.

    A test may kill it; the next one is given another.
    """
    with contextlib.ExitStack() as stack:
        running: list[ComfyServer] = []

        def get() -> ComfyServer:
            if not running or not running[-1].alive():
                folders = [
                    (f"--{name}-directory", str(graph_server.base / name)) for name in ("input", "output")
                ]
                flags = tuple(itertools.chain(*folders))
                server = any_graph_server(tmp_path_factory.mktemp("before"), flags=flags)
                running.append(stack.enter_context(server))
            return running[-1]

        yield get
