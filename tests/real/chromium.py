"""A headless Chromium, told what to do over its own debugging pipe: no driver, no port, no library."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REASON = "needs Chromium (apt-get install chromium)"
# Without the background flags it looks for its maker's servers at every start.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
    "--disable-dev-shm-usage", "about:blank",
)  # fmt: skip
_CONTRAST = """
(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e);
    if (!walker.currentNode.data.trim() || e.closest('script') || !e.getClientRects().length) continue;
    const ink = parts(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()
"""


class Page:
    """One page of the browser. `complaints` collects console messages, exceptions and whatever it wanted to load."""

    def __init__(self, process: subprocess.Popen[bytes], to_it: int, from_it: int) -> None:
        self._process, self._to, self._from = process, to_it, from_it
        self._rest, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1000, height: int = 800, dark: bool = False) -> None:
        """Show a file in a window of this size, in this colour scheme."""
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.tell("Emulation.setEmulatedMedia", features=features)
        self.tell("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 20
        while self.ask("document.readyState + document.URL") != "complete" + path.as_uri():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not load")

    def ask(self, expression: str) -> Any:
        """What JavaScript says; the page's own policy does not hold it off."""
        return self.tell("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def least_contrast(self) -> tuple[float, str]:
        """The lowest contrast of any text with its ground, and that text."""
        ratio, text = self.ask(_CONTRAST)
        return float(ratio), str(text)

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the debugging protocol; events that come meanwhile are kept."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], 30)[0]:
                raise TimeoutError("Chromium does not answer")
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise RuntimeError(f"Chromium ended with {self._process.wait()}")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(parameters)[:500])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(str(parameters["request"]["url"]))
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {parameters.get('message')}")
            self._number += 1
            message = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._to, json.dumps({**message, "sessionId": self._session}).encode() + b"\0")


@contextlib.contextmanager
def browser(profile: Path) -> Generator[Page]:
    """A fresh Chromium with an empty profile, ended with the block."""
    assert PROGRAM is not None
    theirs_in, to_it = os.pipe()
    from_it, theirs_out = os.pipe()
    # It reads from descriptor 3 and writes to 4, whatever numbers the pipes have here.
    command = [
        "bash",
        "-c",
        f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}',
        PROGRAM,
        f"--user-data-dir={profile}",
        *_FLAGS,
    ]
    process = subprocess.Popen(
        command,
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(process, to_it, from_it)
    finally:
        os.close(to_it)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        os.close(from_it)
