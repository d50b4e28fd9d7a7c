"""Asks a server by the library alone: client.py NAME [ADDRESS [HOST]].

NAME is flask, flask-again, fastapi or django, of the servers beside this file, or board, of deployments/apps/django. ADDRESS is where it
listens, 127.0.0.1:8080 by default, and HOST the name under which it is asked.
"""

import gzip
import http.client
import http.cookiejar
import json
import re
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ADDRESS, PORT = (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8080").split(":")
SITE = f"http://{ADDRESS}:{PORT}"
HOST = {"Host": sys.argv[3]} if len(sys.argv) > 3 else {}
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def wait_for_server():
    while True:
        try:
            return socket.create_connection((ADDRESS, PORT), timeout=5).close()
        except ConnectionRefusedError:
            time.sleep(0.1)


def response(path, *, method="GET", body=None, status=200, **headers):
    request = urllib.request.Request(SITE + path, body, HOST | headers, method=method)
    try:
        answer = browser.open(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    content = answer.read()
    assert answer.status == status, (path, answer.status, content)
    return content, answer.headers


def ask(path, **options):
    return response(path, **options)[0].decode()


def ask_json(path, value=None, **options):
    body = None if value is None else json.dumps(value).encode()
    return json.loads(ask(path, body=body, **{"Content-Type": "application/json"}, **options))


def flask():
    assert ask_json("/notes", {"text": "<one>"}, method="POST", status=201) == {"count": 1}
    assert ask_json("/notes", {"text": "two"}, method="POST", status=201) == {"count": 2}
    assert ask("/") == "<p>&lt;one&gt;</p><p>two</p>"
    assert ask_json("/notes") == {"notes": ["<one>", "two"]}
    assert ask("/stream") == "line 0\nline 1\nline 2\n"
    assert "Internal Server Error" in ask("/fails", status=500)
    ask("/missing", status=404)


def flask_again():
    """Of another process, on the same volume."""
    assert ask("/") == "<p>&lt;one&gt;</p><p>two</p>"
    assert ask_json("/notes", {"text": "three"}, method="POST", status=201) == {"count": 1}
    assert ask("/").endswith("<p>three</p>")


def fastapi():
    assert ask_json("/") == {"began": True}
    item = {"name": "box", "price": 1.5, "tags": ["a"]}
    assert ask_json("/items/7", item, method="PUT") == {"number": 7, "slept": "yes"}
    assert ask_json("/items/7") == item
    ask("/items/8", status=404)
    errors = ask_json("/items/9", item | {"price": -1}, method="PUT", status=422)["detail"]
    assert [error["type"] for error in errors] == ["greater_than"], errors
    assert ask("/stream") == "line 0\nline 1\nline 2\n"
    assert "Item" in ask_json("/openapi.json")["components"]["schemas"]
    # Several requests at once, each on a connection of its own and with another one after it.
    connections = [http.client.HTTPConnection(ADDRESS, PORT, timeout=60) for _ in range(20)]
    for _ in range(2):
        for connection in connections:
            connection.request("GET", "/")
        for connection in connections:
            assert json.load(connection.getresponse()) == {"began": True}


def token(page):
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]


def post(path, **fields):
    body = urllib.parse.urlencode({"csrfmiddlewaretoken": token(ask(path)), **fields}).encode()
    return ask(path, method="POST", body=body, Referer=SITE + path)


def django():
    assert ask_json("/users") == {"users": ["root"]}
    assert "Please enter the correct username and password" in post("/admin/login/", username="root", password="wrong")
    assert "Site administration" in post("/admin/login/?next=/admin/", username="root", password="secret")
    added = post("/admin/auth/user/add/", username="second", password1="long enough 1", password2="long enough 1", usable_password="true")
    assert "was added successfully" in added, added
    assert ask_json("/async-users") == {"users": ["root", "second"]}
    assert "second" in ask("/admin/auth/user/")
    assert "--primary" in ask("/static/admin/css/base.css")


def board():
    """With the superuser admin, whose password is `the board 1`, and the token `change-this-token`."""
    assert ask("/healthz") == "alive\n" and ask("/readyz") == "ready\n"
    # Static files have a hash in their name, a type, and a compressed form.
    style = re.search(r'href="(/static/notes/board\.\w{12}\.css)"', ask("/"))[1]
    content, headers = response(style)
    assert b"article" in content and headers.get_content_type() == "text/css", (content, headers)
    assert "immutable" in headers["Cache-Control"], headers
    packed, headers = response(style, **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(packed) == content, headers
    # The admin: its form has a token, and the session a cookie.
    assert "Please enter the correct username and password" in post("/admin/login/", username="admin", password="wrong")
    assert "Site administration" in post("/admin/login/?next=/admin/", username="admin", password="the board 1")
    added = post("/admin/notes/note/add/", title="From the admin", text="<b>one</b>", pinned="on")
    assert "was added successfully" in added, added
    assert "From the admin" in ask("/admin/notes/note/?q=admin")
    # A client without a session.
    ask("/api/notes", method="POST", body=b"{}", status=401)
    token = {"Authorization": "Bearer change-this-token"}
    ask_json("/api/notes", {"text": "no title"}, method="POST", status=400, **token)
    note = ask_json("/api/notes", {"title": "From the API"}, method="POST", status=201, **token)
    assert note["title"] == "From the API" and not note["pinned"], note
    titles = [note["title"] for note in ask_json("/api/notes")["notes"]]
    assert titles[0] == "From the admin" and "From the API" in titles, titles
    assert "&lt;b&gt;one&lt;/b&gt;" in ask("/")


wait_for_server()
{"flask": flask, "flask-again": flask_again, "fastapi": fastapi, "django": django, "board": board}[sys.argv[1]]()
print("all answered")
