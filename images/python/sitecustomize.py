"""Gives programs the working directory that their container names: WASI starts every guest in `/`.

Imported by `site` before the program is; wasm-interp sets PWD to the OCI spec's cwd.
"""

import os

try:
    os.chdir(os.environ.get("PWD") or "/")
except OSError:
    # As in any container, a directory that its user may not enter is no reason not to start.
    pass
