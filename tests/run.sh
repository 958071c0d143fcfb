#!/usr/bin/env bash
# The whole test suite, set-up included. Debian packages only; --clients adds the clients that come
# from other registries (PyPI, npm, Maven).
#
#   tests/run.sh [--clients] [--mutants] [--resume] [--stage NAME]...
#
# Stages: unit, guards, sim, e2e, e2e-blocking, seeds, asan, e2e-asan, fuzz, clients, mutants. --stage runs only those
# named. --mutants adds the stage mutants: each rule of the journal broken, against random lives from fresh seeds. --resume skips stages that passed before with exactly these sources and this machine.
# Prints one line for each test, and at the end "N passed, N failed, N skipped"; exits 1 on a
# failure, and, with CI set, on a skip that tests/expected_skips does not name.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD

clients=no mutants=no resume=no stages=()
while [ $# -gt 0 ]; do
  case $1 in
    --clients) clients=yes ;;
    --mutants) mutants=yes ;;
    --resume) resume=yes ;;
    --stage) shift; stages+=("${1:?--stage needs a name}") ;;
    *) echo "usage: tests/run.sh [--clients] [--mutants] [--resume] [--stage NAME]..." >&2; exit 2 ;;
  esac
  shift
done
if [ ${#stages[@]} -eq 0 ]; then
  stages=(unit guards sim e2e e2e-blocking seeds asan e2e-asan fuzz)
  [ $clients = yes ] && stages+=(clients)
  [ $mutants = yes ] && stages+=(mutants)
fi

deps=(--tests)
[[ " ${stages[*]} " == *" clients "* ]] && deps+=(--clients)
tools/deps.sh "${deps[@]}" || exit 1

# Everything that tests leave behind lies in the build folders or in this folder, which goes.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/varve-tests.XXXXXX")
results=$scratch/results # one line a test: "pass NAME", "fail NAME", "skip NAME: why"
: >"$results"
cleanup() {
  end_ahead
  rm -rf "$scratch"
}
trap cleanup EXIT
jobs=$(nproc)

sources_hash() { # of every file outside the build folders
  find . -path './build*' -prune -o -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-32
}
hash=$(sources_hash)

# End-to-end tests mostly wait: what they leave of the processors builds what the stages after them need.
ahead=
build_ahead() { # build_ahead STAGE PRESET [TARGET]: if that stage is to come
  [[ " ${stages[*]} " == *" $1 "* ]] || return 0
  end_ahead
  setsid nice -n 19 sh -c "cmake --preset $2 && cmake --build --preset $2 -j $jobs ${3:+--target $3}" >"$scratch/ahead.log" 2>&1 &
  ahead=$!
}
end_ahead() { # the build that needs it goes on from there
  [ -z "$ahead" ] || kill -TERM -- "-$ahead" 2>/dev/null
  [ -z "$ahead" ] || wait "$ahead"
  ahead=
}

build() { # build PRESET [TARGET...]
  local preset=$1 log=$scratch/build-$1.log
  shift
  [ "$preset" = dev ] || end_ahead
  echo "== build: $preset"
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}; } >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "fail build-$preset" | tee -a "$results"
    return 1
  fi
}

unit_tests() { # unit_tests PRESET DIR LABEL [arguments for ctest]: every Check program through ctest
  build "$1" || return
  local dir=$2 label=$3 log=$scratch/ctest-$3.log
  shift 3
  ctest --test-dir "$dir" --no-tests=error -j $((jobs + 1)) --output-on-failure "$@" >"$log" 2>&1
  local status=$?
  [ $status -eq 0 ] || cat "$log"
  sed -nE "s/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) \.* *(Passed|\*\*\*[A-Za-z ]+).*/\2 $label\/\1/p" "$log" |
    sed -E 's/^Passed /pass /; t; s/^\*\*\*[A-Za-z ]*[a-z] +/fail /' | tee -a "$results"
  grep -hE '^SKIP ' "$log" 2>/dev/null | sort -u | sed 's/^SKIP /skip /' | tee -a "$results"
  [ $status -eq 0 ] || grep -q '^fail ' "$results" || echo "fail $label/ctest" | tee -a "$results"
}

e2e() { # e2e LABEL BIN [arguments for tests/e2e/run.py]
  local label=$1 bin=$2
  shift 2
  TMPDIR=$scratch /usr/bin/python3 tests/e2e/run.py --bin "$bin" --label "$label" --results "$results" "$@" ||
    grep -q "^fail $label/" "$results" || echo "fail $label/run.py" | tee -a "$results"
}

seeds() { # the crash tests over the simulated disk: more of the fixed seeds, then fresh ones
  build dev || return
  local first test
  for test in test_journal test_log_crash; do
    [ -x build-dev/bin/$test ] || { echo "fail seeds/$test (not built)" | tee -a "$results"; continue; }
    first=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    echo "seeds: $test VARVE_SEED_FROM=$first VARVE_SEEDS=${VARVE_FRESH_SEEDS:-400}"
    if CK_FORK=no VARVE_SEED_FROM=$first VARVE_SEEDS=${VARVE_FRESH_SEEDS:-400} timeout 600 build-dev/bin/$test >"$scratch/seeds.log" 2>&1; then
      echo "pass seeds/$test" | tee -a "$results"
    else
      tail -n 40 "$scratch/seeds.log"
      echo "fail seeds/$test (VARVE_SEED_FROM=$first)" | tee -a "$results"
    fi
  done
}

sim_seeds() { # sim_seeds LABEL [arguments for varve-sim]: prints every seed
  local label=$1
  shift
  echo "sim: varve-sim $*"
  if timeout 900 build-dev/bin/varve-sim --jobs "$jobs" "$@" >"$scratch/sim.log" 2>&1; then
    cat "$scratch/sim.log"
    echo "pass sim/$label" | tee -a "$results"
  else
    cat "$scratch/sim.log"
    echo "fail sim/$label ($(grep -m1 FAILED "$scratch/sim.log" | cut -c1-120))" | tee -a "$results"
  fi
}

sim_mutant() { # sim_mutant NAME SEED SEEDS: a rule that is left out must be noticed
  if timeout 900 build-dev/bin/varve-sim --jobs "$jobs" --seed "$2" --seeds "$3" --first --mutant "$1" >"$scratch/sim.log" 2>&1; then
    echo "fail sim/mutant-$1 (seeds $2 to $(($2 + $3 - 1)) do not notice it)" | tee -a "$results"
  else
    grep FAILED "$scratch/sim.log"
    echo "pass sim/mutant-$1" | tee -a "$results"
  fi
}

SIM_MUTANTS="ACK_BEFORE_FSYNC ACK_OWN_LEO COMMIT_OLD_EPOCH MARKER_OFFSET_ONLY EMPTY_ACK_EARLY" # those that are noticed soonest
SIM_MUTANTS_MORE="VOTE_NO_PERSIST CAND_NO_PERSIST OWN_VOTE_EARLY TRUNC_TO_REQUEST ACK_EARLY FILE_FIRST EXPOSE_HW_EARLY ACK_NO_INC AMNESIA_SAME_ID CFG_NO_CQC CFG_NO_COMMIT NO_GOSSIP DROP_ZERO_LEN VOTE_LAST_RECORD TRUNC_BY_OFFSET PREFIX_DROP_AT_LSO CFG_VOTE START_FORGOTTEN" # the others that whole brokers must notice
sim() { # whole clusters in the simulated world: fixed seeds, fresh ones, mutants, the same hashes from another compiler
  build dev varve-sim quorum-sim || return
  local first mutant
  sim_seeds fixed --seed 1 --seeds 100 --steps 20000 --coverage # each rare situation must be among them
  first=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
  sim_seeds fresh --seed "$first" --seeds "${VARVE_SIM_SEEDS:-60}" --steps 20000
  for mutant in $SIM_MUTANTS; do sim_mutant "$mutant" 1 60; done
  build clang varve-sim || return
  build-dev/bin/varve-sim --seed 1 --seeds 6 --steps 8000 >"$scratch/sim-gcc"
  build-clang/bin/varve-sim --seed 1 --seeds 6 --steps 8000 >"$scratch/sim-clang"
  if diff "$scratch/sim-gcc" "$scratch/sim-clang"; then echo "pass sim/compilers" | tee -a "$results"
  else echo "fail sim/compilers (gcc -O2 and clang -O0 run differently)" | tee -a "$results"; fi
}

mutants() { # every rule of the journal and of the quorum core broken: the quick tests and random lives must both notice
  build dev || return
  local mutant
  sim_seeds seldom --seed "$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')" --seeds 600 --steps 20000 --coverage=seldom
  for mutant in $SIM_MUTANTS; do sim_mutant "$mutant" "$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')" 1000; done
  for mutant in $SIM_MUTANTS_MORE; do sim_mutant "$mutant" 1 600; done
  if VARVE_MUTANTS=all VARVE_SEED_FROM=1 build-dev/bin/test_quorum >"$scratch/quorum-mutants.log" 2>&1; then
    echo "pass mutants/quorum" | tee -a "$results"
  else
    cat "$scratch/quorum-mutants.log"
    echo "fail mutants/quorum" | tee -a "$results"
  fi
  if VARVE_MUTANTS=all build-dev/bin/test_mutants >"$scratch/mutants.log" 2>&1; then
    cat "$scratch/mutants.log"
    echo "pass mutants" | tee -a "$results"
  else
    cat "$scratch/mutants.log"
    echo "fail mutants" | tee -a "$results"
  fi
}

guards() { # what a request costs in calls, bytes and instructions: tests/bench/guards.tsv
  build dev || return
  if /usr/bin/python3 tests/bench/guard.py build-dev >"$scratch/guards.log" 2>&1; then
    cat "$scratch/guards.log"
    echo "pass guards" | tee -a "$results"
  else
    cat "$scratch/guards.log"
    echo "fail guards" | tee -a "$results"
  fi
}

fuzz_one() { # fuzz_one PROGRAM: a fixed short time, from the corpus in the repository
  local name corpus
  name=$(basename "$1")
  mkdir -p "$scratch/corpus/$name"
  corpus=("$scratch/corpus/$name")
  [ -d "tests/fuzz/corpus/${name#fuzz_}" ] && corpus+=("tests/fuzz/corpus/${name#fuzz_}")
  if "$1" -max_total_time="${VARVE_FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
    -artifact_prefix="$scratch/$name-" "${corpus[@]}" >"$scratch/$name.log" 2>&1; then
    echo "pass fuzz/$name" | tee -a "$results"
  else
    tail -n 40 "$scratch/$name.log"
    mkdir -p build-fuzz/crashes
    cp "$scratch/$name"-{crash,oom,timeout,leak}-* build-fuzz/crashes/ 2>/dev/null
    echo "fail fuzz/$name (input kept in build-fuzz/crashes)" | tee -a "$results"
  fi
}

fuzz() { # as many targets beside each other as there are processors
  build fuzz fuzzers || return
  local target
  for target in build-fuzz/bin/fuzz_*; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    fuzz_one "$target" &
  done
  wait
}

run_stage() {
  case $1 in
    unit) unit_tests dev build-dev unit ;;
    e2e) build dev && build_ahead asan asan && e2e e2e build-dev/bin ;;
    e2e-blocking) build dev && e2e e2e-blocking build-dev/bin --io blocking --quick ;;
    guards) guards ;;
    seeds) seeds ;;
    sim) sim ;;
    mutants) mutants ;;
    asan) VARVE_SEEDS=40 unit_tests asan build-asan asan -E '^test_mutants$' ;; # these seeds, and mutants, ran without sanitizers
    e2e-asan) build asan && build_ahead fuzz fuzz fuzzers && e2e e2e-asan build-asan/bin --quick ;;
    fuzz) fuzz ;;
    clients) build dev && TMPDIR=$scratch tests/e2e/clients/run.sh build-dev/bin "$results" ;;
    *) echo "run.sh: no stage '$1'" >&2; exit 2 ;;
  esac
}

for stage in "${stages[@]}"; do
  stamp=build-dev/stages/$stage
  if [ $resume = yes ] && [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$hash" ]; then
    echo "== $stage: passed before with these sources"
    tail -n +2 "$stamp" >>"$results"
    continue
  fi
  echo "== $stage"
  before=$(wc -l <"$results")
  started=$SECONDS
  run_stage "$stage"
  echo "   ($((SECONDS - started)) s)"
  mkdir -p build-dev/stages
  if tail -n "+$((before + 1))" "$results" | grep -q '^fail '; then
    rm -f "$stamp"
  else
    { echo "$hash"; tail -n "+$((before + 1))" "$results"; } >"$stamp"
  fi
done

passed=$(grep -c '^pass ' "$results")
failed=$(grep -c '^fail ' "$results")
skipped=$(grep -c '^skip ' "$results")
[ "$failed" = 0 ] || { echo; grep '^fail ' "$results"; }
if [ -n "${CI:-}" ] && [ "$skipped" != 0 ]; then
  while read -r _ what; do
    name=${what%%:*}
    grep -qxF "$name" tests/expected_skips 2>/dev/null || { echo "unexpected skip: $what"; failed=$((failed + 1)); }
  done < <(grep '^skip ' "$results")
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
