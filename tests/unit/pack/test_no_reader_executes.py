"""Files are data: no source in the repository reads one in a way that can execute what it holds."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = (
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "torch.distributed.checkpoint",
    "torch.package",
)
HARMLESS_OF_PICKLE = {"UnpicklingError", "PicklingError", "PickleError", "dumps", "dump"}
EXECUTING = {
    "eval",
    "exec",
    "torch.hub.load",
    "torch.jit.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
}
EXECUTING_METHODS = {
    "read_pickle",
    "Unpickler",
    "broadcast_object_list",  # between processes, objects travel as pickles
    "all_gather_object",
    "gather_object",
    "recv_object_list",
    "scatter_object_list",
}
EXCEPTIONS = {
    "model_patches/training/old_checkpoint.py": 1,  # an unpickler that makes nothing but records
    "tests/bench/support/faults_children.py": 1,  # what its own forked child sends through a pipe
    "tests/unit/training/test_folder.py": 1,  # writes what older versions wrote
}
"""How many lines of a source are known and looked at."""
READS_NO_WEIGHTS = ("Tokenizer", "TokenizerFast", "Processor", "Config")


def dotted(node: ast.AST) -> str:
    """Return what an expression is called, as far as it is names and dots."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(node: ast.AST) -> list[str]:
    """Return the full names that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def is_executing_name(name: str) -> bool:
    """Tell whether a name is of a module, or a function of pickle, that executes what it reads."""
    if name.startswith("pickle.") and name.partition(".")[2] not in HARMLESS_OF_PICKLE:
        return True
    return name == "torch.load" or any(f"{name}.".startswith(f"{module}.") for module in MODULES)


def is_executing_call(call: ast.Call) -> bool:
    name = dotted(call.func)
    owner, _, last = name.rpartition(".")
    options = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    if name in EXECUTING or last in EXECUTING_METHODS:
        return True
    if options.get("allow_pickle") or options.get("trust_remote_code"):
        return True
    if name == "torch.load":
        return options.get("weights_only") is not True
    if last == "load_torch_file":
        return options.get("safe_load") is not True
    if last != "from_pretrained":
        return False
    loader = owner.rpartition(".")[2]
    if loader.startswith("Auto") and options.get("trust_remote_code") is not False:
        return True  # asks at the console whether to execute
    safe = options.get("weights_only") is True or options.get("use_safetensors") is True
    return not loader.endswith(READS_NO_WEIGHTS) and not safe


def executing_lines(source: str) -> list[int]:
    """Return the lines of a source that can execute what a file holds."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {n.lineno for n in nodes for name in imported(n) if is_executing_name(name)}
    found |= {
        n.lineno
        for n in nodes
        if isinstance(n, ast.Attribute) and is_executing_name(dotted(n)) and dotted(n) != "torch.load"
    }
    return sorted(found | {n.lineno for n in nodes if isinstance(n, ast.Call) and is_executing_call(n)})


def test_no_source_executes_what_it_reads():
    names = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    sources = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    assert len(sources) > 200
    found = {name.as_posix(): executing_lines((ROOT / name).read_text(encoding="utf-8")) for name in sources}
    wrong = {path: lines for path, lines in found.items() if len(lines) != EXCEPTIONS.get(path, 0)}
    assert wrong == {}, "lines that can execute what a file holds; read it as data"


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "from torch import load",
        "pickle.load(file)",
        "read = pickle.loads",
        "from pickle import Unpickler",
        "class Mine(pickle.Unpickler): pass",
        "import joblib",
        "import torch.distributed.checkpoint as dcp",
        "from torch.distributed import checkpoint",
        "from torch.distributed.checkpoint import load",
        "numpy.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "yaml.load(text)",
        "eval(text)",
        "dist.broadcast_object_list(values)",
        "comfy.utils.load_torch_file(path)",
        "CLIPModel.from_pretrained(folder)",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True, use_safetensors=True)",
    ],
)
def test_a_new_reader_is_noticed(source):
    assert executing_lines(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "except_this = pickle.UnpicklingError",
        "model.eval()",
        "numpy.load(path)",
        "yaml.safe_load(text)",
        "CLIPModel.from_pretrained(folder, weights_only=True)",
        "CLIPTokenizer.from_pretrained(folder)",
    ],
)
def test_what_reads_data_alone_is_let_through(source):
    assert executing_lines(source) == []
