"""A pod of `make bench-cluster`: says when its first statement ran, and idles until TERM.

The first process of a container ignores TERM unless it handles it. A Wasm guest is ended by the
runner, before its handler could run.
"""

import time

began = time.time()

import os
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
print(began, sys.version.split()[0], flush=True)
time.sleep(3600)
