"""The server harness takes its process and that one's children down, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from magic141.tools.server import ComfyServer, temporary_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process states are read from /proc")

FAKE_HOST = """
import http.server, pathlib, subprocess, sys
base = pathlib.Path(sys.argv[sys.argv.index("--base-directory") + 1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(base / "child.pid").write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def fake_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A "ComfyUI" that answers at once and has a child process."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "main.py").write_text(FAKE_HOST)
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    return host


def is_running(pid: int) -> bool:
    """Tell whether a process runs; a zombie that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_the_server_and_its_children_end_with_the_block(fake_host, tmp_path):
    with ComfyServer(tmp_path / "base") as server:
        assert server.alive()
        assert (tmp_path / "base" / "custom_nodes" / "magic141" / "pyproject.toml").is_file()
        child = int((tmp_path / "base" / "child.pid").read_text())
        assert is_running(child)
    assert not server.answers()
    assert wait_until_gone(child)


def test_an_error_in_the_block_ends_the_server_too(fake_host):
    seen = {}

    def use_and_fail() -> None:
        with temporary_server() as server:
            seen["base"], seen["child"] = server.base, int((server.base / "child.pid").read_text())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    assert wait_until_gone(seen["child"])
    assert not seen["base"].exists()


def test_a_server_that_ends_at_once_shows_its_log(fake_host, tmp_path):
    (fake_host / "main.py").write_text("raise SystemExit('no such device')")
    with pytest.raises(RuntimeError, match="no such device"), ComfyServer(tmp_path / "base"):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_too(fake_host, tmp_path, number):
    base = tmp_path / "base"
    command = [
        sys.executable,
        "-P",
        "-m",
        "magic141.tools.server",
        "--port",
        "0",
        "--base",
        str(base),
    ]
    shim = str(Path(__file__).resolve().parents[2] / "shim")
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": shim}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "ComfyUI with Magic141" in process.stdout.readline()
    child = int((base / "child.pid").read_text())
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert wait_until_gone(child)
