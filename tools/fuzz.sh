#!/bin/sh
# fuzz.sh [SECONDS] [TARGET...]: builds fuzz/ with libFuzzer and runs each target for so many seconds (8), from
# fuzz/seeds/TARGET and from what earlier runs left in fuzz/corpus/TARGET. An input that fails is kept in
# fuzz/failed; once it is mended, move it to fuzz/seeds.
#
# The coverage that libFuzzer needs is a pass of LLVM's, which a stable rustc runs as well as a nightly one;
# what cargo-fuzz adds, AddressSanitizer, finds little in a program whose unsafe code only makes system calls.
set -eu
cd "$(dirname "$0")/../fuzz"

seconds=${1:-8}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- events configuration arguments globs replacement answers control

host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$option"
done
# With --target, the flags are not those of build scripts.
RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$host"

for target; do
    mkdir -p "corpus/$target" "seeds/$target" failed
    echo "fuzz: $target, $seconds s"
    if ! FUZZ_TARGET=$target "target/$host/release/rinotifyd-fuzz" "corpus/$target" "seeds/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=8192 -print_final_stats=1 \
        -artifact_prefix="failed/$target-" >"failed/$target.log" 2>&1; then
        tail -n 40 "failed/$target.log"
        echo "fuzz: $target failed; the input is in fuzz/failed" >&2
        exit 1
    fi
    grep -E 'number_of_executed_units|new_units_added|peak_rss' "failed/$target.log" | sed 's/^stat::/    /'
done
