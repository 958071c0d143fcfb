#!/usr/bin/python3
"""with_broker.py BIN_DIR COMMAND...: runs COMMAND with a fresh broker's address as its last argument."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import Context  # noqa: E402

ctx = Context(sys.argv[1], "", False)
try:
    b = ctx.broker(settings={"num.partitions": 3})
    code = subprocess.call(sys.argv[2:] + [b.bootstrap], timeout=400)
    if code or not b.alive():
        print("--- trace of the broker\n" + b.trace()[-4000:])
        code = code or 1
finally:
    ctx.cleanup()
sys.exit(code)
