"""What the interface reads beside the code: the front end registers once and stays plain JavaScript."""

from pathlib import Path

WEB = Path(__file__).resolve().parents[3] / "web"


def test_one_script_registers_and_none_is_built():
    scripts = {path.name: path.read_text(encoding="utf-8") for path in WEB.rglob("*.js")}
    assert [name for name, text in scripts.items() if "registerExtension" in text] == ["magic141.js"]
    assert not [name for name, text in scripts.items() if "eval(" in text or "innerHTML" in text]


def test_the_folder_is_declared_once():
    root = WEB.parent
    assert 'WEB_DIRECTORY = "./web"' in (root / "__init__.py").read_text(encoding="utf-8")
    assert "\nweb =" not in (root / "pyproject.toml").read_text(encoding="utf-8")
