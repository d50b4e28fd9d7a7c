"""Asks one of the servers beside this file, at 127.0.0.1:8080, by the library alone: client.py flask|fastapi|django."""

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

SITE = "http://127.0.0.1:8080"
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def wait_for_server():
    while True:
        try:
            return socket.create_connection(("127.0.0.1", 8080), timeout=5).close()
        except ConnectionRefusedError:
            time.sleep(0.1)


def ask(path, *, method="GET", body=None, status=200, **headers):
    request = urllib.request.Request(SITE + path, body, headers, method=method)
    try:
        answer = browser.open(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    assert answer.status == status, (path, answer.status, text)
    return text


def ask_json(path, value=None, **options):
    body = None if value is None else json.dumps(value).encode()
    return json.loads(ask(path, body=body, **{"Content-Type": "application/json"}, **options))


def flask():
    assert ask_json("/notes", {"text": "<one>"}, method="POST", status=201) == {"count": 1}
    assert ask_json("/notes", {"text": "two"}, method="POST", status=201) == {"count": 2}
    assert ask("/") == "<p>&lt;one&gt;</p><p>two</p>"
    assert ask("/stream") == "line 0\nline 1\nline 2\n"
    assert "Internal Server Error" in ask("/fails", status=500)
    ask("/missing", status=404)


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
    connections = [http.client.HTTPConnection("127.0.0.1", 8080, timeout=60) for _ in range(20)]
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


wait_for_server()
{"flask": flask, "fastapi": fastapi, "django": django}[sys.argv[1]]()
print("all answered")
