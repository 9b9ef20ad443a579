"""A real browser that tests click, type and point in: Chromium over its own pipe, no library.

The page's policy stands: what a test does comes from outside, as from a person. Screens may be
narrow or dark, and what a page saves lands in a folder.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

# Chromium reads commands at descriptor 3 and answers at 4; pytest may have these in use itself.
_LAUNCH = """
import os, sys
ours, theirs = map(int, sys.argv[1:3])
import fcntl
ours, theirs = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (ours, theirs))
os.dup2(ours, 3), os.dup2(theirs, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
    "--remote-debugging-pipe",
)
_KEYS = {"Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
_PATIENCE = 60.0  # seconds; far more than anything takes


class Browser:
    """A running Chromium; ``close`` ends it."""

    def __init__(self, program: str, profile: pathlib.Path):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._log = (profile / "stderr.txt").open("wb")
        words = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        descriptors = (str(to_browser), str(from_browser))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *descriptors, *words],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self._read, False)
        self._buffer, self._count, self.events = b"", 0, []
        self._silent = False  # for as long as one waits, and so for those that come after

    def send(self, method: str, session: str = "", **parameters) -> dict:
        """A command's answer; events that come before it are kept."""
        assert not self._silent, "the browser answers no more"
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            for answer in self._received():
                if answer.get("id") == number:
                    assert "error" not in answer, (method, answer["error"])
                    return answer["result"]
                self.events.append(answer)
        self._silent = True
        raise AssertionError(f"the browser did not answer {method}")

    def wait_for(self, event: str, session: str = "") -> dict:
        """The parameters of the next event of a name."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            for one in self.events:
                if one.get("method") == event and one.get("sessionId", "") == session:
                    self.events.remove(one)
                    return one["params"]
            self.events += self._received()
        self._silent = True
        raise AssertionError(f"the browser told nothing of {event}")

    def _received(self) -> list[dict]:
        try:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        except BlockingIOError:
            time.sleep(0.005)
        *whole, self._buffer = self._buffer.split(b"\0")
        return [json.loads(text) for text in whole]

    def close(self) -> None:
        """Ends the browser."""
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Tab:
    """A page of a file in a browser, on a screen of some size."""

    def __init__(
        self, browser: Browser, path: pathlib.Path, width: int = 1300, fragment: str = "",
        dark: bool = False,
    ):  # fmt: skip
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        attached = browser.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._send("Page.enable")
        self._send("Runtime.enable")
        screen = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
        self._send("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._send("Page.navigate", url=f"file://{path}{fragment}")
        browser.wait_for("Page.loadEventFired", self._session)

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_) -> None:
        self._browser.send("Target.closeTarget", targetId=self._target)

    def _send(self, method: str, **parameters) -> dict:
        return self._browser.send(method, self._session, **parameters)

    def ask(self, expression: str):
        """The value of an expression of the page's script."""
        answer = self._send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> None:
        """Waits for an expression to be true."""
        end = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(AssertionError):  # between two pages there is none to ask
                if self.ask(f"Boolean({expression})"):
                    return
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element that the screen shows, scrolled to."""
        x, y = self.ask(
            f"""(() => {{
              const element = document.querySelector({json.dumps(selector)});
              element.scrollIntoView({{ block: "center" }});
              const box = element.getBoundingClientRect();
              return [box.left + box.width / 2, box.top + box.height / 2];
            }})()"""
        )
        return x, y

    def point(self, x: float, y: float) -> None:
        """Moves the pointer."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Clicks in the middle of an element."""
        x, y = self.place(selector)
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        """Clicks at a place of the screen."""
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            where = dict(type=kind, x=x, y=y, button="left", clickCount=1)
            self._send("Input.dispatchMouseEvent", **where)

    def press(self, key: str) -> None:
        """Presses and leaves a key."""
        more = {"windowsVirtualKeyCode": _KEYS[key], "code": {" ": "Space"}.get(key, key)}
        text = {"Enter": "\r", " ": " "}.get(key)
        kind = "keyDown" if text else "rawKeyDown"
        given = {"text": text} if text else {}
        self._send("Input.dispatchKeyEvent", type=kind, key=key, **more, **given)
        self._send("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def choose(self, selector: str, value: str) -> None:
        """Chooses a select's option, as a person's choice tells the page."""
        self.ask(
            f"""(() => {{
              const select = document.querySelector({json.dumps(selector)});
              select.value = {json.dumps(value)};
              select.dispatchEvent(new Event("change", {{ bubbles: true }}));
            }})()"""
        )

    def save_to(self, folder: pathlib.Path) -> None:
        """Lets what the page saves land in a folder."""
        self._browser.send(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder)
        )
