#!/usr/bin/python3
"""with_broker.py BIN_DIR [KEY=VALUE...] COMMAND...: runs COMMAND with a fresh broker's address as its last argument."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Context  # noqa: E402

harness.use_ports_apart()

ctx = Context(sys.argv[1], "", False)
settings, command = {"num.partitions": 3}, sys.argv[2:]
while "=" in command[0]:
    key, value = command.pop(0).split("=", 1)
    settings[key] = value
try:
    b = ctx.broker(settings=settings)
    code = subprocess.call(command + [b.bootstrap], timeout=400)
    if code or not b.alive():
        print("--- trace of the broker\n" + b.trace()[-4000:])
        code = code or 1
finally:
    ctx.cleanup()
sys.exit(code)
