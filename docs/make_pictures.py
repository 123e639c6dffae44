"""Makes the pictures of README.md and of these pages from a sweep that has run.

``python docs/make_pictures.py [FOLDER]``, of the default sweep unless told otherwise; its MLflow
store is ``mlflow.db`` of the current folder. Needs Chromium. The report and MLflow are photographed
in the browser; the live table is drawn from the journal, by the view that drew it.
"""

import asyncio
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from browser_window import Clip, Window, opened
from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from sg_ray.live.view import LiveView
from sg_ray.records.journal import read_events
from sg_ray.sweep_folder import SweepFolder
from sg_ray.tracking.views import CONFIGURATIONS, view_address

PICTURES = Path(__file__).parent / "pictures"
COLUMNS = 132
MOMENT = 0.2
"""Of the sweep's time, at which the live table is shown."""
LAST_ERASED = "\x1b[2K"
"""What a terminal is sent for each line of the table before the next one is drawn."""
SVG_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's own without its fonts, which lie elsewhere on the network."""
SERVER_TIMEOUT_S = 150
REPORT_WIDTH, GAP = 1060, 16
MLFLOW_SIZE = (1500, 640)
GROUP = '[row-id^="tag.configuration."] [role=button]'
"""MLflow's button that folds the runs of one configuration away."""
FOLD_GROUPS = f"""
(async () => {{
  const folded = new Set(), id = button => button.closest("[row-id]").getAttribute("row-id");
  const next = () => [...document.querySelectorAll('{GROUP}')].find(one => !folded.has(id(one)));
  for (let button = next(); button; button = next()) {{
    folded.add(id(button));
    button.click();
    await new Promise(done => setTimeout(done, 400));
  }}
}})()
"""
IN_THE_WAY = ("mlflow.assistant.chat_panel.close", "mlflow.experiment_page.shared_view.dismiss")
"""Buttons that close what MLflow lays over a first visit."""


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and keeps what it is sent."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def draw_console(folder: SweepFolder, objective: str, picture: Path) -> None:
    """Draw the live table as it was at ``MOMENT``."""
    events = list(read_events(folder.events))
    begun_ms, ended_ms = events[0].at_ms, events[-1].at_ms
    moment_ms = begun_ms + MOMENT * (ended_ms - begun_ms)
    shown, now_ms = Terminal(), begun_ms
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with LiveView(objective, stream=shown, clock=lambda: now_ms / 1000) as view:
        for event in events:
            if event.at_ms > moment_ms:
                break
            now_ms = event.at_ms
            view(event)
    table = shown.getvalue().rpartition(LAST_ERASED)[2].strip("\n")
    console = Console(record=True, file=io.StringIO(), width=COLUMNS)
    console.print(Text.from_ansi(table))
    console.save_svg(str(picture), title=f"sg-ray sweep: {folder.name}", code_format=SVG_FORMAT)


async def photograph_report(page: Path, picture: Path) -> None:
    """Photograph the report's head and verdict, and below them its seeds."""
    async with opened(REPORT_WIDTH, 1000) as window:
        await window.go(page.absolute().as_uri())
        await window.wait_until("document.getElementById('seeds')")
        head_ends = await _edge(window, "section:has(#verdict) .headline", "bottom")
        begins = await _edge(window, "#seeds", "top") - GAP
        ends = await _edge(window, "section:has(#seeds) figure", "bottom") + GAP
        clips = (
            Clip(0, 0, REPORT_WIDTH, head_ends + GAP),
            Clip(0, begins, REPORT_WIDTH, ends - begins),
        )
        parts = [Image.open(io.BytesIO(await window.picture(clip))) for clip in clips]
    whole = Image.new("RGB", (REPORT_WIDTH, sum(part.height for part in parts)), "white")
    whole.paste(parts[0], (0, 0))
    whole.paste(parts[1], (0, parts[0].height))
    whole.save(picture, optimize=True)


async def _edge(window: Window, selector: str, edge: str) -> float:
    """Return how far below the page's top an edge of its first element of a kind is."""
    element = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
    return float(await window.run(f"{element}.{edge} + window.scrollY"))


async def photograph_mlflow(address: str, name: str, picture: Path) -> None:
    """Photograph MLflow's saved view of configurations, the runs of each folded away."""
    width, height = MLFLOW_SIZE
    question = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    with urllib.request.urlopen(question, timeout=30) as answer:
        experiment_id = json.load(answer)["experiment"]["experiment_id"]
    async with opened(width, height) as window:
        await window.go(f"{address}/{view_address(experiment_id, CONFIGURATIONS)}")
        await window.wait_until(f"document.querySelector('{GROUP}')")
        for name in IN_THE_WAY:
            button = f"document.querySelector('[data-component-id=\"{name}\"]')"
            await window.run(f"{button} && {button}.click()")
        await window.run(FOLD_GROUPS)
        seen = float(await window.run("innerHeight"))
        taken = await window.picture(Clip(0, 0, width, seen))
    Image.open(io.BytesIO(taken)).convert("RGB").save(picture, optimize=True)


@contextlib.contextmanager
def mlflow_server(store: Path) -> Iterator[str]:
    """Serve an MLflow store on this machine for the length of the block; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{store}",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    nowhere = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
    try:
        _wait_for(f"http://127.0.0.1:{port}/", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SERVER_TIMEOUT_S
    while True:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(address, timeout=10).close()
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the MLflow server does not answer")
        time.sleep(0.5)


def main(folder: SweepFolder) -> None:
    """Make all three."""
    PICTURES.mkdir(exist_ok=True)
    objective = json.loads(folder.verdict.read_text(encoding="utf-8"))["objective"]
    draw_console(folder, objective, PICTURES / "console.svg")
    asyncio.run(photograph_report(folder.report, PICTURES / "report.png"))
    with mlflow_server(Path("mlflow.db").absolute()) as address:
        asyncio.run(photograph_mlflow(address, folder.name, PICTURES / "mlflow.png"))


if __name__ == "__main__":
    main(SweepFolder(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/quick")))
