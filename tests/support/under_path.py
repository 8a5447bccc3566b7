"""A small reverse proxy that serves a ComfyUI under a path, as people do who have several pages on one address."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, WSMsgType, web

PATH = "/comfy"
LARGEST_BYTES = 1 << 28
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}


@contextlib.contextmanager
def served_under_path(url: str) -> Iterator[str]:
    """Serve what is at an address under a path of another one.

    Yields:
        The address of the page, with its last slash.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait_for(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    runner, port = wait_for(_start(url))
    try:
        yield f"http://127.0.0.1:{port}{PATH}/"
    finally:
        wait_for(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=60)
        loop.close()


async def _start(url: str) -> tuple[web.AppRunner, int]:
    app = web.Application(client_max_size=LARGEST_BYTES)

    async def forward(request: web.Request) -> web.StreamResponse:
        target = url + request.path_qs.removeprefix(PATH)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _forward_socket(request, session, target)
        return await _forward_page(request, session, target)

    async def close_session(_: web.Application) -> None:
        await session.close()

    session = ClientSession(
        auto_decompress=False,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None),
        connector=TCPConnector(limit=0),
    )
    app.router.add_route("*", PATH + "/{rest:.*}", forward)
    app.on_cleanup.append(close_session)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


async def _forward_page(request: web.Request, session: ClientSession, target: str) -> web.StreamResponse:
    body = await request.read() or None
    async with session.request(
        request.method, target, headers=_end_to_end(request.headers), data=body, allow_redirects=False
    ) as reply:
        answer = web.StreamResponse(status=reply.status, headers=_end_to_end(reply.headers))
        with contextlib.suppress(ConnectionResetError):  # the page needs it no more
            await answer.prepare(request)
            async for part in reply.content.iter_chunked(1 << 16):
                await answer.write(part)
        return answer


async def _forward_socket(request: web.Request, session: ClientSession, target: str) -> web.StreamResponse:
    answer = web.WebSocketResponse(max_msg_size=0)
    await answer.prepare(request)
    async with session.ws_connect(target, max_msg_size=0) as server:
        both = [asyncio.create_task(_hand_on(*ends)) for ends in ((answer, server), (server, answer))]
        _, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
    await answer.close()
    return answer


async def _hand_on(source, target) -> None:
    """Send every message of one end of a socket to the other end."""
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _end_to_end(headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]
