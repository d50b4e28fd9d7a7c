"""In the container: Django's own tests, by the script of its source, in whose folder this is started."""

import os
import runpy
import sys
import types

import outcomes

# Django's runner imports it for what its processes share in a parallel run.
sys.modules["ctypes"] = types.ModuleType("ctypes")
outcomes.watch_unittest()
script = os.path.join(os.getcwd(), "runtests.py")
sys.path[0] = os.getcwd()
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
