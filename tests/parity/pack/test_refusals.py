"""What the system refuses reaches people as a sentence, whichever node it happens in."""

import asyncio
import errno

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

from comfy_api.latest import io
from magic141.model_patches.store.disk import DiskRefused
from magic141.nodes import Magic141Extension
from magic141.nodes.limits import keep_limits
from magic141.nodes.refusals import say_refusals

NODES = asyncio.run(Magic141Extension().get_node_list())


def refuse(cls, *_, **__):
    raise PermissionError(errno.EACCES, "Permission denied", "a.bin")


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_says_what_the_system_refuses(node):
    own = next(each for each in node.__mro__ if "execute" in vars(each) and each.__mro__[1] is io.ComfyNode)
    broken = say_refusals(type("Broken", (own,), {"execute": classmethod(refuse)}))
    with pytest.raises(
        DiskRefused, match=r"^a\.bin cannot be opened or changed: permission denied\. Change its"
    ):
        broken.execute()
    assert vars(node)["execute"].__func__.__qualname__ == vars(broken)["execute"].__func__.__qualname__


def test_a_check_of_inputs_answers_with_the_sentence():
    class Checks(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema("Checks", inputs=[io.String.Input("name")])

        @classmethod
        def validate_inputs(cls, name=None):
            return refuse(cls)

    assert "permission denied" in str(keep_limits(Checks).validate_inputs(name="a"))


def test_what_has_its_own_sentence_stays():
    def speak(cls):
        raise FileNotFoundError("There is no such set. Build it first.")

    with pytest.raises(FileNotFoundError, match="Build it first"):
        say_refusals(type("Speaks", (io.ComfyNode,), {"execute": classmethod(speak)})).execute()
