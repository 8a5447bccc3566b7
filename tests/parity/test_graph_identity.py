"""What feeds a node is the same or another, as the artist sees it; with the host's own graph and node classes."""

import random

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.graph_identity import describe_unknown, graph_identity

import nodes


class Loader:
    """A node of the old kind that names a file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING",)}}


class Patch(Loader):
    """Changes a model."""


class Changing(Loader):
    """Says itself whether it changed."""

    answer: object = 1

    @classmethod
    def IS_CHANGED(cls, **_):
        return cls.answer() if callable(cls.answer) else cls.answer


class NotIdempotent(Loader):
    """Gives something else every time."""

    NOT_IDEMPOTENT = True


@pytest.fixture(autouse=True)
def known_nodes(monkeypatch, tmp_path):
    for kind in (Loader, Patch, Changing, NotIdempotent):
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, kind.__name__, kind)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "tested", ([str(tmp_path)], {".bin"}))
    monkeypatch.setattr(Changing, "answer", 1)
    return tmp_path


def node(kind: type | str, **inputs) -> dict:
    return {"class_type": kind if isinstance(kind, str) else kind.__name__, "inputs": inputs}


def graph(**changes) -> dict:
    return {
        "1": node(Loader, name="model.bin"),
        "2": node(Patch, model=["1", 0], threshold=0.2),
        "9": node("Magic141SlidingWindowExtend", model=["2", 0], vae=["1", 1], run_name="a"),
    } | changes


def identity(prompt: dict, node_id: str = "9"):
    return graph_identity(prompt, node_id, ("model", "vae"))


def test_the_same_graph_is_the_same():
    assert identity(graph()) == identity(graph())
    assert identity(graph()).unknown == ()


def test_ids_titles_order_and_widgets_of_the_node_itself_do_not_count():
    renumbered = {
        "30": node("Magic141SlidingWindowExtend", run_name="b", vae=["10:2", 1], model=["20", 0]),
        "20": node(Patch, threshold=0.2, model=["10:2", 0]) | {"_meta": {"title": "mine"}},
        "10:2": node(Loader, name="model.bin"),
    }
    assert identity(renumbered, "30") == identity(graph())


@pytest.mark.parametrize(
    "changes",
    [
        {"1": node(Loader, name="other.bin")},
        {"2": node(Patch, model=["1", 0], threshold=0.21)},
        {"2": node(Patch, model=["1", 1], threshold=0.2)},
        {"2": node(Patch, model=["1", 0], threshold=True)},
        {"2": node(Loader, model=["1", 0], threshold=0.2)},
        {"9": node("Magic141SlidingWindowExtend", model=["1", 0], vae=["1", 1])},
    ],
)
def test_what_an_artist_changes_is_another_graph(changes):
    assert identity(graph(**changes)).hash != identity(graph()).hash


def test_one_and_one_point_zero_are_the_same_widget_value():
    one, same = (graph(**{"2": node(Patch, model=["1", 0], threshold=value)}) for value in (1, 1.0))
    assert identity(one) == identity(same)


@pytest.mark.parametrize("hashed_bytes", [0, 100])
def test_a_file_that_a_widget_names_counts(known_nodes, monkeypatch, hashed_bytes):
    monkeypatch.setattr("magic141.model_patches.bridge.graph_identity.HASHED_BYTES", hashed_bytes)
    missing = identity(graph())
    (known_nodes / "model.bin").write_bytes(b"one")
    first = identity(graph())
    assert first.hash != missing.hash
    assert first == identity(graph())
    (known_nodes / "model.bin").write_bytes(b"two")
    assert identity(graph()).hash != first.hash


def test_a_folder_that_a_widget_names_counts(known_nodes):
    (known_nodes / "model.bin" / "deeper").mkdir(parents=True)
    (known_nodes / "model.bin" / "deeper" / "weights").write_bytes(b"one")
    first = identity(graph())
    assert first == identity(graph())
    (known_nodes / "model.bin" / "deeper" / "weights").write_bytes(b"two")
    assert identity(graph()).hash != first.hash


@pytest.mark.parametrize("text", ["../" * 40 + "etc/passwd", ".", "a\0b", "x" * 5000, "[output]", "\ud83d"])
def test_texts_that_name_no_file_are_texts(text):
    known = identity(graph(**{"1": node(Loader, name=text)}))
    assert known == identity(graph(**{"1": node(Loader, name=text)}))


@pytest.mark.parametrize("kind", [Changing, NotIdempotent, "AClassThatIsNotInstalled"])
def test_what_cannot_be_known_is_never_the_same(kind, monkeypatch):
    monkeypatch.setattr(Changing, "answer", float("nan"))
    prompt = graph(**{"1": node(kind, name="a")})
    first, second = identity(prompt), identity(prompt)
    assert first.hash != second.hash
    assert "so this starts anew" in describe_unknown(first)[0]
    assert str(getattr(kind, "__name__", kind)) in first.unknown


def test_a_node_that_says_what_changed_is_believed(monkeypatch):
    prompt = graph(**{"1": node(Changing, name="a")})
    first = identity(prompt)
    assert identity(prompt) == first
    monkeypatch.setattr(Changing, "answer", "another")
    assert identity(prompt).hash != first.hash
    monkeypatch.setattr(Changing, "answer", staticmethod(random.random))
    assert identity(prompt).hash != identity(prompt).hash


def test_what_the_host_asked_already_is_taken():
    prompt = graph(**{"1": node(Changing, name="a") | {"is_changed": ["told"]}})
    other = graph(**{"1": node(Changing, name="a") | {"is_changed": ["told again"]}})
    assert identity(prompt).hash != identity(other).hash


def test_a_value_that_is_no_text_or_number_cannot_be_known():
    prompt = graph(**{"2": node(Patch, model=["1", 0], threshold=object())})
    assert identity(prompt).unknown == ("Patch",)


def test_a_long_chain_is_read_once_a_node():
    chain = {str(i): node(Patch, a=[str(i - 1), 0], b=[str(i - 1), 0]) for i in range(2, 200)}
    prompt = {"1": node(Loader, name="a"), **chain, "end": node("X", model=["199", 0])}
    assert identity(prompt, "end") == identity(prompt, "end")
