#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a time, from the corpus kept here.
#
#   tests/fuzz/run.sh SECONDS [BUILD]
#
# BUILD is a build folder of clang (default: build-test/clang). A finding is kept as
# BUILD/fuzz/findings/NAME-*; the status is 1 if there was one. Inputs that reached new code stay in
# BUILD/fuzz/grown/NAME and are used again.
set -euo pipefail
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [BUILD]}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${2:-$top/build-test/clang}

cmake -S "$top" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang >/dev/null
ninja -C "$build" fuzz >/dev/null
mkdir -p "$build/fuzz/findings"
status=0
for program in "$build"/fuzz/fuzz_*; do
    name=$(basename "$program")
    name=${name#fuzz_}
    grown=$build/fuzz/grown/$name
    log=$build/fuzz/$name.log
    mkdir -p "$grown"
    if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/fuzz/findings/$name-" "$grown" "$here/corpus/$name" >"$log" 2>&1; then
        printf '%-12s %9s runs, no finding\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        printf '%-12s FINDING, see %s\n' "$name" "$log"
        tail -n 40 "$log"
        status=1
    fi
done
exit "$status"
