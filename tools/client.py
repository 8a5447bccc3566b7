"""Talk to a ComfyUI server as its own frontend does: HTTP for commands, a WebSocket for progress."""

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

OnEvent = Callable[[str, dict], None]
FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")
HISTORY_SECONDS = 30
TEXT_ON_A_NODE = 3
"""ComfyUI's ``BinaryEventTypes.TEXT``."""


class PromptRejected(Exception):
    """The server refused the prompt before running it; ``node_errors`` maps node id to its messages."""

    def __init__(self, reply: dict) -> None:
        self.node_errors = {
            node: readable_errors(error) for node, error in (reply.get("node_errors") or {}).items()
        }
        lines = [message_of(reply.get("error") or reply)]
        lines += [f"node {node}: {text}" for node, texts in self.node_errors.items() for text in texts]
        super().__init__("\n".join(lines))


class ExecutionFailed(Exception):
    """A node raised; ``node_type`` and the text are what the artist would see."""

    def __init__(self, data: dict) -> None:
        self.node_type = data.get("node_type", "")
        self.exception_type = data.get("exception_type", "")
        super().__init__(f"{self.node_type}: {data.get('exception_message', '').strip()}")


class Interrupted(Exception):
    """The run was canceled."""


@dataclass
class Result:
    """The results of a finished run: outputs by node id, seconds, and the number of preview images received."""

    prompt_id: str
    seconds: float
    outputs: dict[str, dict] = field(default_factory=dict)
    previews: int = 0

    def files(self) -> list[dict]:
        """Return the saved files as the server describes them (filename, subfolder, type)."""
        values = [
            value for output in self.outputs.values() for value in output.values() if isinstance(value, list)
        ]
        return [
            entry for value in values for entry in value if isinstance(entry, dict) and "filename" in entry
        ]


class ComfyClient:
    """A client of a ComfyUI server, like one browser tab."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=120) as reply:
            return reply.read()

    def get_json(self, path: str) -> dict:
        return json.loads(self.get(path))

    def post(self, path: str, body: dict) -> dict:
        """Post JSON; return the JSON reply.

        Raises:
            PromptRejected: the server answered 400 with its reasons.
        """
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if error.code == 400:
                raise PromptRejected(json.loads(text)) from None
            raise RuntimeError(
                f"POST {path} answered {error.code}: {text[:500].decode(errors='replace')}"
            ) from None
        return json.loads(text) if text.strip() else {}

    def object_info(self) -> dict[str, dict]:
        return self.get_json("/object_info")

    def upload_image(self, path: Path) -> str:
        """Put a picture into the server's input folder; return the name a Load Image node takes."""
        return asyncio.run(self._upload(path))

    async def _upload(self, path: Path) -> str:
        form = aiohttp.FormData({"overwrite": "true"})
        form.add_field("image", path.read_bytes(), filename=path.name)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/upload/image", data=form) as reply,
        ):
            reply.raise_for_status()
            return (await reply.json())["name"]

    def queue(self, prompt: dict, workflow: dict | None = None) -> str:
        """Queue an API prompt; ``workflow`` is the UI graph to store in saved files."""
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        body = {"prompt": prompt, "client_id": self.client_id, "extra_data": extra}
        return self.post("/prompt", body)["prompt_id"]

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def download(self, file: dict) -> bytes:
        """Return the bytes of one of ``Result.files()``."""
        return self.get(
            "/view?" + urllib.parse.urlencode({key: file[key] for key in ("filename", "subfolder", "type")})
        )

    def run(
        self,
        prompt: dict,
        *,
        workflow: dict | None = None,
        on_event: OnEvent | None = None,
        timeout: float = 300,
    ) -> Result:
        """Queue a prompt, follow it to its end and collect its outputs.

        Args:
            prompt: API prompt.
            workflow: UI graph to store in saved files.
            on_event: called with every event of the run: type and data; previews come as ``("preview", {})``,
                progress texts as ``("text", {"node": ..., "text": ...})``.
            timeout: seconds, after which the run is interrupted.
        Raises:
            PromptRejected, ExecutionFailed, Interrupted, TimeoutError.
        """
        try:
            return asyncio.run(asyncio.wait_for(self._run(prompt, workflow, on_event or ignore), timeout))
        except TimeoutError:
            self.interrupt()
            raise TimeoutError(f"The prompt did not finish in {timeout:.0f} s and was interrupted.") from None

    async def _run(self, prompt: dict, workflow: dict | None, on_event: OnEvent) -> Result:
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            result = Result(self.queue(prompt, workflow), 0.0)
            start = time.monotonic()
            async for message in socket:
                kind, data = parse_event(message)
                if kind not in ("preview", "text") and data.get("prompt_id") != result.prompt_id:
                    continue
                on_event(kind, data)
                result.previews += kind == "preview"
                if kind in FINAL_EVENTS:
                    result.seconds = time.monotonic() - start
                    return self._finish(result, kind, data)
        raise ConnectionError("The server closed the connection before the prompt had finished.")

    def _finish(self, result: Result, kind: str, data: dict) -> Result:
        if kind == "execution_error":
            raise ExecutionFailed(data)
        if kind == "execution_interrupted":
            raise Interrupted(result.prompt_id)
        result.outputs = self._outputs(result.prompt_id)
        return result

    def _outputs(self, prompt_id: str) -> dict[str, dict]:
        """Read the outputs from the history; the server enters a run there just after it has announced its end."""
        until = time.monotonic() + HISTORY_SECONDS
        while prompt_id not in (history := self.get_json(f"/history/{prompt_id}")):
            if time.monotonic() > until:
                raise RuntimeError(f"The server has no history of {prompt_id}.")
            time.sleep(0.05)
        return history[prompt_id]["outputs"]


def parse_event(message: aiohttp.WSMessage) -> tuple[str, dict]:
    """Return the type and the data of a message; binary messages are preview images, or texts on a node."""
    if message.type == aiohttp.WSMsgType.BINARY:
        return parse_binary(message.data)
    event = json.loads(message.data)
    return event.get("type", ""), event.get("data") or {}


def parse_binary(data: bytes) -> tuple[str, dict]:
    kind, length = (int.from_bytes(data[start : start + 4], "big") for start in (0, 4))
    if kind != TEXT_ON_A_NODE:
        return "preview", {}
    node, text = data[8 : 8 + length], data[8 + length :]
    return "text", {"node": node.decode(), "text": text.decode()}


def readable_errors(error: dict) -> list[str]:
    prefix = error.get("class_type", "node")
    return [f"{prefix}: {message_of(entry)}" for entry in error.get("errors", [])]


def message_of(error: dict) -> str:
    parts = (str(error.get("message", "")), str(error.get("details", "")))
    return ": ".join(part for part in parts if part) or str(error)


def ignore(kind: str, data: dict) -> None:
    """Take an event and do nothing."""
