"""Headless Chromium: what a page measures there, and pictures of it."""

import re
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
)
_PROBE = """\
<!doctype html><iframe id="page" src="{address}" width="{width}" height="2000"></iframe>
<pre id="found">nothing</pre>
<script>
document.getElementById("page").onload = event => {{
  const root = event.target.contentDocument.documentElement;
  document.getElementById("found").textContent = root.scrollWidth + " wide";
}};
</script>
"""


def find_browser() -> str | None:
    """Return the path of a Chromium; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A Chromium that keeps its profile in a folder of ours."""

    def __init__(self, path: str, folder: Path) -> None:
        self._path, self._folder = path, folder

    def width_of(self, page: Path, window: int) -> int:
        """Return how wide ``page`` is in a window ``window`` wide: more means that it overflows."""
        probe = self._folder / "probe.html"
        probe.write_text(_PROBE.format(address=page.as_uri(), width=window), encoding="utf-8")
        dom = self._run("--virtual-time-budget=5000", "--dump-dom", probe.as_uri())
        found = re.search(r"(\d+) wide", dom)
        assert found, dom[-500:]
        return int(found[1])

    def picture(self, address: str, path: Path, width: int, height: int) -> None:
        """Write a PNG of the page at ``address``."""
        self._run(
            f"--window-size={width},{height}",
            "--virtual-time-budget=8000",
            f"--screenshot={path}",
            address,
        )
        assert path.stat().st_size > 0

    def _run(self, *arguments: str) -> str:
        profile = f"--user-data-dir={self._folder / 'profile'}"
        done = subprocess.run(
            [self._path, *_FLAGS, profile, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout
