"""What pyperformance's programs take of pyperf: each function runs again and again for a while, in this process."""

import argparse
import asyncio
from time import perf_counter

__all__ = ["Runner", "perf_counter", "python_implementation"]

SECONDS = 0.5


def python_implementation():
    return "cpython"


class Runner:
    def __init__(self, **_):
        self.argparser = argparse.ArgumentParser()
        self.metadata = {}
        self.args = None

    def parse_args(self):
        self.args = self.argparser.parse_args()
        return self.args

    def bench_time_func(self, _name, function, *arguments, **_):
        end = perf_counter() + SECONDS
        while perf_counter() < end:
            function(1, *arguments)

    def bench_func(self, name, function, *arguments, **_):
        self.bench_time_func(name, lambda _: function(*arguments))

    def bench_async_func(self, name, function, *arguments, **_):
        self.bench_time_func(name, lambda _: asyncio.run(function(*arguments)))
