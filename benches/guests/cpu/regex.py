"""re: searching, splitting and replacing."""

import re

lines = [f"2026-11-{day % 30 + 1:02} host{day % 7} GET /path/{day}?q={day * 31 % 97} HTTP/1.1 {200 + day % 5}" for day in range(4000)]
LINE = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\w+) (GET|POST) (/\S*) HTTP/1\.[01] (\d+)")
found = 0
for _ in range(90):
    for line in lines:
        match = LINE.match(line)
        found += int(match[7])
        found += len(re.sub(r"[aeiou]", "_", match[6]))
        found += len(re.findall(r"\w+", line))
print(found)
