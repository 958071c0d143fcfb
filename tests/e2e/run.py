#!/usr/bin/python3
"""Runs the end-to-end tests: every function test_*(ctx) of every test_*.py beside this file.

  run.py --bin DIR [--io blocking|io_uring] [--quick] [--only PATTERN] [--jobs N] [--label L] [--results FILE]

Most of a test is waiting, so N of them (one more than there are processors) run beside each other; a function whose `alone`
attribute is set measures, and runs when the others are done. One whose `slow` is set is left out with --quick, one with `any_io`
with --io blocking. Prints "pass NAME", "fail NAME" or "skip NAME: why" for each, appends the same to FILE, exits 1 on a failure."""
import argparse
import concurrent.futures
import contextlib
import fnmatch
import importlib
import io
import multiprocessing
import os
import sys
import time
import traceback

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import harness  # noqa: E402


def run_test(args, module_name, name):
    """In a process of the pool: the line that says how it went, and what was printed."""
    function = getattr(importlib.import_module(module_name), name)
    full = f"{args.label}/{module_name[5:]}.{name[5:]}"
    ctx = harness.Context(args.bin, args.io, args.quick)
    said = io.StringIO()
    started = time.monotonic()
    with contextlib.redirect_stdout(said):
        try:
            with harness.told(ctx):
                function(ctx)
            line = f"pass {full}"
        except harness.Skip as e:
            line = f"skip {full}: {e}"
        except Exception:
            traceback.print_exc(file=said)
            line = f"fail {full}"
    return line, said.getvalue(), time.monotonic() - started


def chosen(args):
    for module_name in sorted(f[:-3] for f in os.listdir(here) if f.startswith("test_") and f.endswith(".py")):
        module = importlib.import_module(module_name)
        for name in [n for n in vars(module) if n.startswith("test_")]:
            function = getattr(module, name)
            if not fnmatch.fnmatch(f"{module_name}.{name}", f"*{args.only}*") or (args.quick and getattr(function, "slow", False)):
                continue
            if args.io == "blocking" and getattr(function, "any_io", False):
                continue  # not about the I/O, or on the blocking one anyway
            yield module_name, name, getattr(function, "alone", False), not getattr(function, "slow", False)


def run_all(args, tests, jobs, counter):
    """Runs (module, name) pairs; returns the lines."""
    lines = []
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, harness.use_ports, (counter,)) as pool:
        futures = {pool.submit(run_test, args, *test): test for test in tests}
        for future in concurrent.futures.as_completed(futures):
            try:
                line, said, seconds = future.result()
            except concurrent.futures.process.BrokenProcessPool as e:
                line, said, seconds = f"fail {args.label}/{futures[future][0][5:]}.{futures[future][1][5:]} (its process died)", str(e), 0
            print(f"{said}{line}  ({seconds:.1f} s)", flush=True)
            lines.append(line)
            if args.results:
                with open(args.results, "a") as f:
                    f.write(line + "\n")
    return lines


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--io", default="")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only", default="*")
    p.add_argument("--jobs", type=int, default=os.cpu_count() + 2)
    p.add_argument("--label", default="e2e")
    p.add_argument("--results")
    args = p.parse_args()
    tests = sorted(chosen(args), key=lambda test: test[3])  # the long ones first, so that none is waited for at the end
    counter = multiprocessing.Value("i", 0)
    lines = run_all(args, [t[:2] for t in tests if not t[2]], args.jobs, counter)
    lines += run_all(args, [t[:2] for t in tests if t[2]], 1, counter)
    sys.exit(1 if not lines or any(line.startswith("fail") for line in lines) else 0)


main()
