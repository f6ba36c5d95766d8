#!/usr/bin/env bash
# Counts the instructions that each part of the data path takes for a message. Unlike a time, that is the same on any day, however
# busy the machine is. Needs valgrind and awk. Takes a minute or two.
#
#   tools/count_instructions.sh [N]      N: messages, 1024000 by default
#
# examples/instructions.rs is run under callgrind with N messages and with 2N: the difference, divided by N, is free of what starting
# and ending cost. A producer's counts are those of one function of that program. A worker's are those of its whole thread: of its lane,
# the policy, priorities, verdicts and counters, and the latency sample once a block. It never waits meanwhile, but for
# 4096 looks at most at an empty lane when it starts: 50 000 instructions or so, once, which with few messages would be seen.
#
# Under valgrind the clock is a system call, whose work in the kernel is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."

n=${1:-1024000}
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }
cargo build --release --quiet --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

callgrind() { # OUT OPTION ARGUMENT…
    local out=$1 option=$2
    shift 2
    if ! valgrind --tool=callgrind "$option" --callgrind-out-file="$out" "$program" "$@" >"$out.log" 2>&1; then
        cat "$out.log" >&2
        exit 1
    fi
}

summary() { awk '/^(summary|totals):/ { print $2; exit }' "$1"; }

print() { # NAME COUNT COUNT
    awk -v name="$1" -v once="$2" -v twice="$3" -v n="$n" 'BEGIN { printf "%-52s %8.1f\n", name, (twice - once) / n }'
}

# What one function of the program, and all that it calls, takes.
count_function() { # NAME FUNCTION ARGUMENT…
    local name=$1 function=$2
    shift 2
    callgrind "$scratch/once" "--toggle-collect=instructions::$function" "$@" "$n"
    callgrind "$scratch/twice" "--toggle-collect=instructions::$function" "$@" $((2 * n))
    print "$name" "$(summary "$scratch/once")" "$(summary "$scratch/twice")"
}

# What the worker's thread takes: the one that calls `hold_worker`.
worker_summary() { # COUNT ARGUMENT…
    local count=$1
    shift
    rm -f "$scratch"/thread*
    callgrind "$scratch/thread" --separate-threads=yes "$@" "$count"
    summary "$(grep -l 'instructions::hold_worker' "$scratch"/thread-*)"
}

count_worker() { # NAME ARGUMENT…
    local name=$1 once twice
    shift
    once=$(worker_summary "$n" "$@")
    twice=$(worker_summary $((2 * n)) "$@")
    print "$name" "$once" "$twice"
}

printf '%-52s %8s\n' "instructions a message, from $n messages" ""
count_function "making a message" produce_nothing message
count_function "bare lane: make, write, publish each 256" lane_send lane
count_function "bare lane: receive, and a sum" lane_receive lane
for wait in spin park; do
    for burst in 1 8 256; do
        count_function "producer: make, offer, flush each $burst ($wait)" produce producer "$burst" "$wait"
    done
done
for level in NORMAL SOFT GRACEFUL AGGRESSIVE CIRCUIT_BREAK; do
    count_worker "worker: $level, empty handler" worker "$level" empty
done
count_worker "worker: NORMAL, sum (2 of its own)" worker NORMAL sum
count_worker "worker: NORMAL, copy and sum (4 of its own)" worker NORMAL enrich
