"""json: documents are written and read."""

import json

document = {
    "users": [
        {"id": number, "name": f"user {number}", "ratio": number / 7, "tags": ["a", "b\u00e4", None, True], "text": "x" * 40}
        for number in range(1000)
    ]
}
total = 0
for _ in range(450):
    text = json.dumps(document)
    total += len(text) + len(json.loads(text)["users"])
print(total)
