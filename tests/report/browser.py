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


_PRINT_PROBE = """\
<!doctype html><iframe id="page" src="{address}" width="800" height="2000"></iframe>
<pre id="found">nothing</pre>
<script>
document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument, style = page.createElement("style");
  const rules = [...page.styleSheets].flatMap(sheet => [...sheet.cssRules]);
  const printed = rules.filter(rule => rule.media && rule.media.mediaText === "print");
  style.textContent = printed.flatMap(r => [...r.cssRules]).map(r => r.cssText).join(" ");
  page.head.append(style);
  const closed = [...page.querySelectorAll("details:not([open])")];
  const hidden = closed.filter(one => one.lastElementChild.getBoundingClientRect().height === 0);
  const parted = [...page.querySelectorAll("h2, h3")].filter(
    one => page.defaultView.getComputedStyle(one).breakAfter !== "avoid");
  const whole = [...page.querySelectorAll("section, .block")].filter(
    one => page.defaultView.getComputedStyle(one).breakInside === "avoid");
  document.getElementById("found").textContent =
    `${{closed.length}} closed ${{hidden.length}} hidden ${{parted.length}} parted ` +
    `${{whole.length}} whole`;
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

    def printed(self, page: Path) -> dict[str, int]:
        """Return how many details are closed, hidden in print; headings and blocks that part."""
        probe = self._folder / "print.html"
        probe.write_text(_PRINT_PROBE.format(address=page.as_uri()), encoding="utf-8")
        dom = self._run("--virtual-time-budget=5000", "--dump-dom", probe.as_uri())
        found = re.search(r"\d+ closed \d+ hidden \d+ parted \d+ whole", dom)
        assert found, dom[-500:]
        numbers, names = found[0].split()[::2], found[0].split()[1::2]
        return dict(zip(names, map(int, numbers), strict=True))

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
