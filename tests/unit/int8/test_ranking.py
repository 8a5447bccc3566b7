"""Layers that stay as they are: read from a ranking, left in the file, said in its header."""

import json

import pytest
import torch
from magic141.model_patches.dit.weights_file import read_header
from magic141.model_patches.int8.choice import plan_file
from magic141.model_patches.int8.file import PROVENANCE, quantize_file, read_kept
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.model_patches.int8.ranking import Ranking, keep_worst, parse_ranking
from magic141.model_patches.int8.source import hunyuan_layout
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WORST, NEXT = "single_blocks.0.linear1", "double_blocks.0.img_mod.lin"
RANKING = Ranking("error of the output; seed 3", {WORST: 0.25, NEXT: 0.125})


def test_text_is_read_back():
    assert parse_ranking(RANKING.text) == RANKING


def test_a_list_in_any_order_and_with_endings_is_read():
    found = parse_ranking(f"  {NEXT}.weight: 0.1\n\n{WORST}: 2e-1 \n")
    assert found.errors == {WORST: 0.2, NEXT: 0.1}
    assert list(found.errors) == [WORST, NEXT]
    assert found.found_by == "a list typed by hand"


@pytest.mark.parametrize("line", ["single_blocks.0.linear1", "single_blocks.0.linear1: bad", "one two"])
def test_other_text_is_refused_by_line(line):
    with pytest.raises(ValueError, match=f"Line 2 of ranking is '{line}'"):
        parse_ranking(f"{NEXT}: 1\n{line}")


def test_the_worst_are_kept():
    plan = keep_worst(QuantizationPlan(), 1, RANKING.text)
    assert plan.keep == (WORST,)
    assert plan.found_by == RANKING.found_by
    assert keep_worst(QuantizationPlan(), 0, "anything") == QuantizationPlan()
    with pytest.raises(ValueError, match="keep_worst is 3, but ranking names 2 layers"):
        keep_worst(QuantizationPlan(), 3, RANKING.text)


@pytest.mark.parametrize("mode", ["weight_only", "w8a8", "int4"])
def test_kept_layers_stay_and_the_header_says_so(mode, tmp_path):
    source, target = tmp_path / "dit.safetensors", tmp_path / "int8.safetensors"
    save_file(tiny_dit(), source)
    plan = keep_worst(QuantizationPlan(mode), 2, RANKING.text)
    planned = plan_file(read_header(source), hunyuan_layout(read_header(source)), plan)
    report = quantize_file(source, target, plan)
    assert f"kept as they are: {WORST}, {NEXT}" in planned.text
    assert report.line.endswith(f"Kept as they were: {WORST}, {NEXT}.")
    assert len(planned.layers) == report.num_layers == 13 - 2
    written, weights = load_file(target), load_file(source)
    for name in (WORST, NEXT):
        assert torch.equal(written[f"{name}.weight"], weights[f"{name}.weight"])
        assert f"{name}.comfy_quant" not in written
    with safe_open(target, framework="pt") as file:
        method = json.loads(file.metadata()[PROVENANCE])["method"]
    assert method["keep"] == [WORST, NEXT]
    assert method["found_by"] == RANKING.found_by
    assert read_kept(read_header(target)) == ((WORST, NEXT), RANKING.found_by)


def test_a_ranking_of_another_model_is_refused(tmp_path):
    save_file(tiny_dit(), tmp_path / "dit.safetensors")
    plan = keep_worst(QuantizationPlan(), 1, "blocks.0.ffn.0: 1")
    with pytest.raises(ValueError, match=r"no layer blocks\.0\.ffn\.0 to keep"):
        quantize_file(tmp_path / "dit.safetensors", tmp_path / "int8.safetensors", plan)
    assert not (tmp_path / "int8.safetensors").exists()


@pytest.mark.parametrize(
    "entry",
    ["", "no JSON", "[]", '{"method": 3}', "{}", '{"method": {"keep": 3, "found_by": ""}}', "[" * 100_000],
)
def test_a_header_that_was_edited_says_nothing(entry, tmp_path):
    save_file(tiny_dit(), tmp_path / "dit.safetensors", metadata={PROVENANCE: entry})
    assert read_kept(read_header(tmp_path / "dit.safetensors")) == ((), "")
