#!/usr/bin/env python
"""Shows what a script in a container reaches: arguments, variables, files, and nothing of the host.

    hello.py [--exit CODE] [--stdin] [WORD ...]

Reads the file that NOTE names, where one is mounted. Reads standard input only when asked to,
because `ctr run` always attaches one and a terminal never ends.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import sqlite3
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--exit", type=int, default=0, metavar="CODE", help="exit with this code")
    parser.add_argument("--stdin", action="store_true", help="read standard input to its end")
    options = parser.parse_args()

    print(f"hello {os.environ.get('WHO', 'world')}, from Python {sys.version.split()[0]} on {sys.platform}")
    print("words:", json.dumps(options.words))

    note = pathlib.Path(os.environ.get("NOTE", "/data/note.txt"))
    if note.exists():
        print("note:", json.dumps(note.read_text().strip()))

    if options.stdin:
        lines = sys.stdin.read().splitlines()
        print("stdin:", json.dumps(lines))

    # A database on disk, to show that /tmp is there and can be written.
    database = pathlib.Path("/tmp/hello.db")
    database.unlink(missing_ok=True)
    with sqlite3.connect(database) as connection:
        connection.execute("create table word (text, letters)")
        connection.executemany(
            "insert into word values (?, ?)", [(word, len(re.findall(r"\w", word))) for word in options.words])
        (letters,) = connection.execute("select coalesce(sum(letters), 0) from word").fetchone()
    print(f"letters: {letters}, counted by SQLite {sqlite3.sqlite_version} in {database}")

    today = datetime.datetime.now(datetime.timezone.utc).date()
    print("date:", today.isoformat())
    return options.exit


if __name__ == "__main__":
    sys.exit(main())
