"""Strings and dicts: words are split, joined, formatted and counted."""

words = [f"word{number * 7919 % 1009}" for number in range(20_000)]
total = 0
for turn in range(240):
    counts = {}
    for word in words:
        key = word.upper() if turn % 2 else word
        counts[key] = counts.get(key, 0) + 1
    text = " ".join(f"{key}={value}" for key, value in sorted(counts.items()))
    for part in text.split():
        name, _, value = part.partition("=")
        total += len(name.replace("o", "0")) * int(value)
print(total)
