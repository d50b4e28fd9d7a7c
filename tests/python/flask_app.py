"""A web server by Flask, with SQLite, templates, sessions and streams."""

import os
import sqlite3

from flask import Flask, jsonify, render_template_string, request, session

app = Flask(__name__)
app.secret_key = "of the tests"
database = sqlite3.connect(os.environ["NOTES"], check_same_thread=False, autocommit=True)
database.execute("create table if not exists note (text)")


@app.get("/")
def index():
    notes = [text for (text,) in database.execute("select text from note")]
    return render_template_string("{% for note in notes %}<p>{{ note }}</p>{% endfor %}", notes=notes)


@app.get("/notes")
def notes():
    return jsonify(notes=[text for (text,) in database.execute("select text from note")])


@app.post("/notes")
def add():
    database.execute("insert into note values (?)", [request.get_json()["text"]])
    session["count"] = session.get("count", 0) + 1
    return jsonify(count=session["count"]), 201


@app.get("/stream")
def stream():
    return (f"line {number}\n" for number in range(3))


@app.get("/fails")
def fails():
    raise ArithmeticError("as it should")


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8080)
