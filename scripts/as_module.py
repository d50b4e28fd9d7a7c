"""A program of this repository whose file has no extension, as a module: for tests, and for programs that share its functions."""

import importlib.machinery
import importlib.util
import sys


def load(path):
    """The module, under the name of its file."""
    loader = importlib.machinery.SourceFileLoader(path.name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(path.name, loader))
    sys.modules[path.name] = module
    loader.exec_module(module)
    return module
