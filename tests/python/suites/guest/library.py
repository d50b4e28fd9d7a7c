"""In the container: CPython's own regression tests, as `python -m test` runs them in one process."""

import faulthandler
import os
import sys
import types

import outcomes

from test import support
from test.libregrtest import setup
from test.libregrtest.main import main

# They take sockets for what WASI does not have. Guests have them.
support.has_socket_support = True
# regrtest would handle signals by it. A wait that a handler could end waits for it, instead of saying that nothing can.
setup.faulthandler = types.SimpleNamespace(enable=faulthandler.enable, register=lambda *arguments, **options: None)
# As for `python -m test`. Tests write there.
sys.path[0] = os.getcwd()
outcomes.watch_unittest()
main()
