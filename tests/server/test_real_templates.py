"""The workflows on real weights: settings of their models, downloads, and whether the server accepts them."""

import json

import pytest
from magic141.tests.support.real_templates import (
    edits_needed,
    real_templates,
    without_download,
    write_stand_ins,
)
from magic141.tools.client import ExecutionFailed
from magic141.tools.graph import workflow_to_prompt

TEMPLATES = real_templates()
every_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def stand_ins(server):
    """Empty files under the names of all weights, which a loader can be asked for but not open."""
    files = write_stand_ins(TEMPLATES, server.base)
    yield
    for file in files:
        file.unlink()


@every_template
def test_it_needs_no_edit_before_the_first_run_but_picture_and_prompt(path, object_info):
    assert edits_needed(path, object_info) == []


@every_template
def test_comfyui_can_offer_every_file(path):
    assert without_download(path) == []


@every_template
def test_with_its_files_in_place_the_server_accepts_it_and_begins_with_a_file(path, client, stand_ins):
    prompt = workflow_to_prompt(json.loads(path.read_text(encoding="utf-8")), client.object_info())
    with pytest.raises(ExecutionFailed) as failed:
        client.run(prompt)
    assert "Load" in failed.value.node_type
