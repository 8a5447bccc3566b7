"""The pack inside a real ComfyUI: it loads, and it hides nothing of the host's."""

import json
from urllib.parse import quote

from magic141.tools.client import ComfyClient
from magic141.tools.server import PACK

OURS = {
    "Magic141LoadModel": "Load Magic141 Model",
    "Magic141LoadEncoders": "Load Magic141 Encoders",
    "Magic141VLMImageEncode": "VLM Image Encode",
    "Magic141FewStepSampler": "Few-Step TI2V Sampler",
}

WEBP = b"RIFF"


def test_the_pack_is_imported_without_a_warning(server):
    text = server.log_text().partition("To see the GUI")[0]
    assert "IMPORT FAILED" not in text
    assert "Traceback" not in text


def test_the_hosts_own_nodes_are_there(object_info):
    assert object_info["KSampler"]["python_module"] == "nodes"
    assert {"LoadImage", "VAELoader", "UNETLoader"} <= object_info.keys()


def test_our_nodes_have_their_names_and_category(object_info):
    assert {name: object_info[name]["display_name"] for name in OURS} == OURS
    ours = [info for name, info in object_info.items() if name.startswith("Magic141")]
    assert {info["category"].split("/")[0] for info in ours} == {"Magic141"}
    parts = {part for info in ours for part in info["category"].split("/")}
    for language in ("en", "zh"):
        texts = json.loads((PACK / "locales" / language / "main.json").read_text(encoding="utf-8"))
        assert set(texts["nodeCategories"]) == parts


def test_every_input_and_output_of_ours_has_a_tooltip(object_info):
    missing = []
    for name, info in object_info.items():
        if not name.startswith("Magic141"):
            continue
        sections = [info["input"].get("required", {}), info["input"].get("optional", {})]
        inputs = [(key, spec) for section in sections for key, spec in section.items()]
        missing += [f"{name}.{key}" for key, spec in inputs if len(spec) < 2 or not spec[1].get("tooltip")]
        tooltips = info.get("output_tooltips") or [None] * len(info["output"])
        missing += [f"{name} output {index}" for index, tooltip in enumerate(tooltips) if not tooltip]
    assert missing == []


def test_the_embedded_models_are_in_the_stock_dropdowns(object_info):
    assert "magic141_shapes_vae.safetensors" in object_info["VAELoader"]["input"]["required"]["vae_name"][0]
    assert (
        "magic141_shapes_ti2v.safetensors" in object_info["UNETLoader"]["input"]["required"]["unet_name"][0]
    )


def test_the_template_browser_shows_every_workflow(client: ComfyClient):
    shown = client.get_json("/workflow_templates")["magic141"]
    assert sorted(shown) == sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
    for name in map(quote, shown):
        assert json.loads(client.get(f"/api/workflow_templates/magic141/{name}.json"))["nodes"]
        assert client.get(f"/api/workflow_templates/magic141/{name}.jpg").startswith(WEBP)


def test_the_example_picture_is_in_the_input_folder(object_info):
    assert "magic141_example.png" in object_info["LoadImage"]["input"]["required"]["image"][0]


def test_the_node_library_offers_every_blueprint(client: ComfyClient):
    listed = client.get_json("/global_subgraphs")
    ours = {entry["name"]: key for key, entry in listed.items() if entry["source"] == "custom_node"}
    files = {path.stem: path for path in (PACK / "subgraphs").glob("*.json")}
    assert ours.keys() == files.keys()
    for name, key in ours.items():
        assert listed[key]["info"] == {"node_pack": "custom_nodes.magic141"}
        assert client.get_json(f"/global_subgraphs/{key}")["data"] == files[name].read_text(encoding="utf-8")
