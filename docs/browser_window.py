"""A window of headless Chromium that a script opens pages in, clicks in, and takes pictures of.

It speaks Chromium's own DevTools protocol, for a picture taken from the command line is taken
before one could click.
"""

import asyncio
import base64
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_TIMEOUT_S = 60
PAGE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Clip:
    """A part of a page, in points from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass
class Window:
    """An open window."""

    _socket: aiohttp.ClientWebSocketResponse
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    async def go(self, address: str) -> None:
        """Open a page."""
        await self._do("Page.navigate", url=address)

    async def run(self, script: str) -> Any:
        """Return what a JavaScript expression is worth, as plain data; awaits a promise."""
        done = await self._do(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    async def wait_until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true. Raises TimeoutError if it never is."""
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            while not await self.run(f"Boolean({condition})"):
                await asyncio.sleep(0.3)

    async def picture(self, clip: Clip) -> bytes:
        """Return a PNG of a part of the page."""
        area = {**vars(clip), "scale": 1}
        taken = await self._do("Page.captureScreenshot", clip=area, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    async def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == number:
                return dict(answer["result"])


@contextlib.asynccontextmanager
async def opened(width: int, height: int) -> AsyncIterator[Window]:
    """Open a window of so many points; closed with the block. Exits if there is no browser."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"no browser: install one of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += ["--remote-debugging-port=0", "--no-first-run", f"--window-size={width},{height}"]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            browser, *flags, f"--user-data-dir={profile}", stdout=nowhere, stderr=nowhere
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                address = await _page_address(session, port)
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    yield Window(socket)
        finally:
            process.terminate()
            await process.wait()


async def _port(written_to: Path) -> int:
    """Return the port that Chromium listens on, once it has written it down."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while not (written_to.exists() and (lines := written_to.read_text().splitlines())):
            await asyncio.sleep(0.1)
    return int(lines[0])


async def _page_address(session: aiohttp.ClientSession, port: int) -> str:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [page for page in await answer.json() if page["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
