"""docs/internals/benchmarks.md: `make bench` writes the page, and other commands a section of it each."""

import re

# The sections that `make bench` leaves as they are, in the order in which they are on the page.
CPU, NETWORK, APPS, CLUSTER = "Programs that only compute", "Servers of C", "Applications", "On a cluster"
SECTIONS = [CPU, NETWORK, APPS, CLUSTER]


def split(text):
    """What `make bench` writes, and the text of each section by its heading."""
    own, kept = [], {}
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        heading = part.partition("\n")[0].removeprefix("## ")
        if heading in SECTIONS:
            kept[heading] = part
        else:
            own.append(part)
    return "".join(own), kept


def join(own, kept):
    return "\n\n".join(part.rstrip() for part in [own, *(kept[name] for name in SECTIONS if name in kept)]) + "\n"


def read(page):
    return page.read_text() if page.exists() else ""


def write(page, own):
    """The page, with the sections that it has."""
    page.write_text(join(own, split(read(page))[1]))


def write_section(page, heading, text):
    """One section, in the place of the one of before."""
    own, kept = split(read(page))
    page.write_text(join(own, kept | {heading: f"## {heading}\n\n{text}"}))
