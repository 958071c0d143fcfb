#!/usr/bin/python3
"""Runs the end-to-end tests: every function test_*(ctx) of every test_*.py beside this file.

  run.py --bin DIR [--io blocking|io_uring] [--quick] [--only PATTERN] [--label L] [--results FILE]

A function whose `slow` attribute is set is left out with --quick, one with `any_io` with --io blocking. Prints "pass NAME", "fail NAME" or
"skip NAME: why" for each, appends the same to FILE, exits 1 on a failure."""
import argparse
import fnmatch
import importlib
import os
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Context, Skip  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--io", default="")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only", default="*")
    p.add_argument("--label", default="e2e")
    p.add_argument("--results")
    args = p.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    failed = 0
    for module_name in sorted(f[:-3] for f in os.listdir(here) if f.startswith("test_") and f.endswith(".py")):
        module = importlib.import_module(module_name)
        for name in [n for n in vars(module) if n.startswith("test_")]:
            function = getattr(module, name)
            full = f"{args.label}/{module_name[5:]}.{name[5:]}"
            if not fnmatch.fnmatch(f"{module_name}.{name}", f"*{args.only}*") or (args.quick and getattr(function, "slow", False)):
                continue
            if args.io == "blocking" and getattr(function, "any_io", False):
                continue  # not about the I/O, or on the blocking one anyway
            ctx = Context(args.bin, args.io, args.quick)
            started = time.monotonic()
            try:
                try:
                    function(ctx)
                except BaseException:
                    for b in ctx.brokers:
                        print(f"--- trace of the broker on port {b.port} (end)\n{b.trace()[-3000:]}", flush=True)
                    raise
                finally:
                    ctx.cleanup()
                line = f"pass {full}"
            except Skip as e:
                line = f"skip {full}: {e}"
            except Exception:
                traceback.print_exc(file=sys.stdout)
                line = f"fail {full}"
                failed += 1
            print(f"{line}  ({time.monotonic() - started:.1f} s)", flush=True)
            if args.results:
                with open(args.results, "a") as f:
                    f.write(line + "\n")
    sys.exit(1 if failed else 0)


main()
