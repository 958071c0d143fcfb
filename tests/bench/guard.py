#!/usr/bin/env python3
"""guard.py BUILD_DIR [--update]: what a request costs under a fixed load, to the digit, against guards.tsv.

`guard` runs a broker in the simulated world, so counts do not depend on the machine. They are the difference of two runs, both
long enough that the journal has been round once. Instructions are those of our own code (folders base, proto, log, replication and
server; the C library, checksums and compression aside), counted by callgrind; they depend on the compiler, so their limit leaves
5 %. A value above its limit fails; one that is far below it should become the new limit (--update)."""
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
TABLE = HERE / "guards.tsv"
# Rounds: the two runs for the counts, the run for the instructions.
WORKLOADS = {"produce-1k": (800, 1600, 10), "produce-16k": (300, 600, 20), "produce-512k": (50, 100, 10), "fetch-1m": (20, 60, 10)}
METRICS = ("submits", "calls", "written", "instructions")
SLACK = {"submits": 1.01, "calls": 1.01, "written": 1.01, "instructions": 1.05}
LIBRARIES = ("base", "proto", "log", "replication", "server")


def own_functions(build):
    names = set()
    for library in LIBRARIES:
        out = subprocess.run(["nm", str(build / f"libvarve_{library}.a")], capture_output=True, text=True, check=True).stdout
        names.update(line.split()[2].split(".")[0] for line in out.splitlines() if re.match(r"^[0-9a-f]+ [tT] ", line))
    return names


def counts(build, workload, rounds):
    out = subprocess.run([str(build / "bin/guard"), workload, str(rounds)], capture_output=True, text=True, check=True).stdout.split()
    return {out[i]: int(out[i + 1]) for i in range(0, len(out), 2)}


def instructions(build, workload, rounds, own, scratch):
    path = f"{scratch}/callgrind.out"
    subprocess.run(["valgrind", "-q", "--tool=callgrind", "--toggle-collect=measured*", f"--callgrind-out-file={path}", str(build / "bin/guard"), workload, str(rounds)],
                   capture_output=True, check=True)
    total, names, mine, called = 0, {}, False, False
    for line in open(path):
        if line.startswith("fn="):
            number, _, name = line[3:].strip().partition(" ")
            if name:
                names[number] = name
            mine = names[number].split("'")[0].split(".")[0] in own
        elif line.startswith(("cfn=", "cob=", "cfi=", "cfl=")):
            number, _, name = line[4:].strip().partition(" ")
            if name and line.startswith("cfn="):
                names[number] = name
        elif line.startswith("calls="):
            called = True  # the next line is what the callee took
        elif line[0].isdigit() or line[0] in "+-*":
            if mine and not called:
                total += int(line.split()[1])
            called = False
    return total


def measure(build):
    own = own_functions(build)
    values = {}
    with tempfile.TemporaryDirectory() as scratch:
        for workload, (few, many, rounds) in WORKLOADS.items():
            a, b = counts(build, workload, few), counts(build, workload, many)
            n = b["requests"] - a["requests"]
            for metric in METRICS[:3]:
                values[workload, metric] = (b[metric] - a[metric]) / n
            requests = counts(build, workload, rounds)["requests"]
            values[workload, "instructions"] = instructions(build, workload, rounds, own, scratch) / requests
    return values


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    values = measure(build)
    if "--update" in sys.argv:
        lines = [f"{w}\t{m}\t{value * SLACK[m] + 0.005:.2f}" for (w, m), value in values.items()]
        TABLE.write_text("workload\tfor each request\tlimit\n" + "\n".join(lines) + "\n")
    limits = {tuple(line.split("\t")[:2]): float(line.split("\t")[2]) for line in TABLE.read_text().splitlines()[1:]}
    bad = 0
    for key, value in values.items():
        verdict = "" if value <= limits[key] else "  ABOVE THE LIMIT"
        bad += bool(verdict)
        print(f"{key[0]:14} {key[1]:13} {value:12.2f}  limit {limits[key]:12.2f}{verdict}")
    return 1 if bad or set(values) != set(limits) else 0


if __name__ == "__main__":
    sys.exit(main())
