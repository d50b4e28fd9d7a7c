"""sqlite3: rows are inserted, joined and summed up, in memory."""

import sqlite3

database = sqlite3.connect(":memory:")
database.execute("create table item (id integer primary key, kind integer, name text, price real)")
database.execute("create table kind (id integer primary key, title text)")
database.executemany("insert into kind values (?, ?)", [(number, f"kind {number}") for number in range(50)])
rows = [(number, number * 31 % 50, f"item {number}", number / 3) for number in range(60_000)]
database.executemany("insert into item values (?, ?, ?, ?)", rows)
database.execute("create index by_kind on item (kind)")
total = 0.0
for _ in range(42):
    query = "select title, count(*), sum(price), max(name) from item join kind on kind.id = item.kind group by title"
    total += sum(row[2] for row in database.execute(query))
    total += len(database.execute("select name from item where name like '%99%' order by price desc").fetchall())
print(f"{total:.3f}")
