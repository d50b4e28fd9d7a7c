"""In the container: Django's own tests, by the script of its source, in whose folder this is started."""

import os
import runpy
import sys

import outcomes

outcomes.watch_unittest()
script = os.path.join(os.getcwd(), "runtests.py")
sys.path[0] = os.getcwd()
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
