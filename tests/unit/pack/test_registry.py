"""What the registry and ComfyUI-Manager read of the pack: metadata, node ids, requirements, forbidden calls."""

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from magic141.tools import weight_sizes
from magic141.tools.host import comfyui_path
from magic141.tools.manager import NEVER_INSTALLED, NEVER_MOVED_DOWN, requirements, would_install
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]
SHIPPED = [
    path
    for room in (".", "nodes", "model_patches", "embedded")
    for path in ROOT.joinpath(room).glob("*.py" if room == "." else "**/*.py")
    if path.name != "dev.py"
]


def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in SHIPPED]


def test_the_registry_finds_all_it_asks_for():
    assert re.fullmatch(r"[a-z][a-z0-9-]*", PROJECT["name"])
    assert "comfyui" not in PROJECT["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert (ROOT / PROJECT["license"]["file"]).is_file()
    assert PROJECT["urls"]["Repository"].startswith("https://github.com/")
    assert {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui", "Models"} <= COMFY.keys()
    assert "web" not in COMFY  # the scripts would be registered twice
    frontend = next(name for name in PROJECT["dependencies"] if name.startswith("comfyui-frontend-package"))
    for version in (COMFY["requires-comfyui"], frontend.removeprefix("comfyui-frontend-package")):
        assert re.fullmatch(r">=\d+\.\d+\.\d+", version), "the registry drops a version of another form"


@pytest.mark.parametrize(("key", "ratio"), [("Icon", 1), ("Banner", 21 / 9)])
def test_its_pictures_lie_in_the_repository(key, ratio):
    _, _, path = COMFY[key].partition("/main/")
    with Image.open(ROOT / path) as picture:
        assert picture.width / picture.height == pytest.approx(ratio, abs=0.01)
        assert key == "Banner" or picture.width <= 400


def test_models_go_where_comfyui_keeps_models():
    for model in COMFY["Models"]:
        assert model["location"].startswith("models/")
        assert model["model_url"].startswith("https://")
        assert model["model_url"].endswith(Path(model["location"]).name)


def test_the_two_lists_of_requirements_agree():
    declared = {str(Requirement(text)) for text in PROJECT["dependencies"] if "comfyui-frontend" not in text}
    assert declared == {str(requirement) for requirement in requirements(ROOT / "requirements.txt")}


def test_every_requirement_is_used_by_what_ships():
    imported = {
        name.partition(".")[0]
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    names = {"pillow": "PIL"}
    wanted = {names.get(entry.name, entry.name) for entry in requirements(ROOT / "requirements.txt")}
    assert wanted - imported == set()


def test_installing_moves_nothing_that_others_rely_on():
    ours = {entry.name: entry for entry in requirements(ROOT / "requirements.txt")}
    assert ours.keys().isdisjoint(NEVER_INSTALLED | {"kornia"})
    hosts = {entry.name.lower(): entry for entry in requirements(comfyui_path() / "requirements.txt")}
    for name, entry in ours.items():
        if name in hosts:
            assert lowest(entry) <= lowest(hosts[name]), f"{name} would be moved up"
        assert only_lower_bounds(entry)
        assert not would_install(entry), (
            f"with ComfyUI's and our requirements in place, {name} is installed again"
        )
    for name in ours.keys() - hosts.keys():
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.name.lower() in NEVER_MOVED_DOWN and "extra" not in str(needed.marker):
                assert only_lower_bounds(needed), f"{name} would move {needed.name} down"
                assert needed.name != "torch" or lowest(needed) <= Version("2.6"), "README names 2.6"


def only_lower_bounds(requirement: Requirement) -> bool:
    return all(part.operator in (">=", ">", "!=") for part in requirement.specifier)


def lowest(requirement: Requirement) -> Version:
    bounds = [Version(part.version) for part in requirement.specifier if part.operator in (">=", ">")]
    return max(bounds, default=Version("0"))


def test_node_ids_can_be_read_without_running_anything():
    schemas = [
        {keyword.arg: keyword.value for keyword in call.keywords}
        for path, tree in trees()
        if path.parent.name == "nodes"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "io.Schema"
    ]
    ids = {schema["node_id"].value: "is_dev_only" in schema for schema in schemas}
    assert len(ids) == len(schemas)
    documented = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    assert {name for name, hidden in ids.items() if not hidden} == documented
    assert all(name.startswith("Magic141") for name in ids)


def test_only_the_new_way_of_declaring_nodes_is_used():
    names = {node.id for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "NODE_CLASS_MAPPINGS" not in names
    assert "NODE_DISPLAY_NAME_MAPPINGS" not in names


def test_nothing_is_evaluated_or_installed_at_run_time():
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "os.system"):
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node.func)}")
            if isinstance(node, ast.Import | ast.ImportFrom) and "subprocess" in ast.unparse(node):
                found.append(f"{path.name}:{node.lineno} subprocess")
    assert found == []
    assert not (ROOT / "install.py").exists()


def test_the_readme_holds_the_tables_of_weights():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert weight_sizes.sizes_table() in readme
    assert weight_sizes.choices_table() in readme
