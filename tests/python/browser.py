"""Uses the admin of deployments/apps/django in Chromium: browser.py ROOT ADDRESS HOST USER PASSWORD PICTURE.

ROOT is the root of a Debian with Chromium and its driver, which nothing is written to. ADDRESS is where the application
listens, and HOST the name by which the browser asks. Logs in, makes a note, and writes what the browser shows then to
PICTURE. Nothing but Python's library: the driver speaks WebDriver, JSON by HTTP.
"""

import base64
import contextlib
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT, ADDRESS, HOST, USER, PASSWORD, PICTURE = sys.argv[1:]
ADDRESS, PORT = ADDRESS.split(":")
SITE = f"http://{HOST}:{PORT}"
DRIVER = 9515
# In mounts and processes of its own, which end with it.
ENTER = """
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/tmp"
exec env --ignore-environment HOME=/tmp PATH=/usr/sbin:/usr/bin:/bin chroot "$0" /usr/bin/chromedriver --port="$1"
"""
OPTIONS = [
    # The driver speaks to the browser by a pipe: nothing here knows the name localhost.
    "--remote-debugging-pipe",
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--window-size=1000,700", f"--host-resolver-rules=MAP {HOST} {ADDRESS}",
]  # fmt: skip
# What WebDriver calls the id of an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


@contextlib.contextmanager
def driver():
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", ENTER, ROOT, str(DRIVER)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(method, path, **value):
    body = json.dumps(value).encode() if method == "POST" else None
    request = urllib.request.Request(
        f"http://127.0.0.1:{DRIVER}{path}", body, {"Content-Type": "application/json"}, method=method)  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=170) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path} {value}: {error.read().decode()}")


def begin(process):
    """The session's path, once the driver listens."""
    options = {"args": OPTIONS, "binary": "/usr/lib/chromium/chromium"}
    wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
    while True:
        try:
            return "/session/" + ask("POST", "/session", capabilities=wanted)["sessionId"]
        except urllib.error.URLError as error:
            if process.poll() is not None:
                sys.exit(f"the driver ended with {process.returncode}: {error}")
            time.sleep(0.1)


class Page:
    """What the browser shows."""

    def __init__(self, session):
        self.session = session

    def find(self, selector):
        found = ask("POST", f"{self.session}/element", using="css selector", value=selector)
        return f"{self.session}/element/{found[ELEMENT]}"

    def type(self, selector, text):
        ask("POST", self.find(selector) + "/value", text=text)

    def click(self, selector):
        ask("POST", self.find(selector) + "/click")

    def text(self, selector):
        return ask("GET", self.find(selector) + "/text")

    def script(self, text):
        return ask("POST", f"{self.session}/execute/sync", script=text, args=[])


def use(page):
    ask("POST", f"{page.session}/url", url=f"{SITE}/admin/")
    page.type("#id_username", USER)
    page.type("#id_password", PASSWORD)
    page.click("input[type=submit]")
    assert page.text("#content h1") == "Site administration", page.text("body")
    page.click(".model-note .addlink")
    page.type("#id_title", "Written in a browser")
    page.type("#id_text", "By Chromium, with the admin's own scripts and styles.")
    page.click("#id_pinned")
    page.click("input[name=_save]")
    said = page.text(".messagelist .success")
    assert "Written in a browser" in said and "was added successfully" in said, said
    assert "Written in a browser" in page.text("#result_list"), page.text("body")
    # Styles and scripts have come.
    color = page.script("return getComputedStyle(document.querySelector('#header')).backgroundColor")
    assert color == "rgb(65, 118, 144)", color
    assert page.script("return typeof django.jQuery") == "function"


with driver() as process:
    page = Page(begin(process))
    use(page)
    picture = base64.b64decode(ask("GET", f"{page.session}/screenshot"))
    pathlib.Path(PICTURE).write_bytes(picture)
    ask("DELETE", page.session)
print("the note is made")
