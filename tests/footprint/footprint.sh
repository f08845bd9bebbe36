#!/bin/sh
# What the runtime takes on a target: builds it as small as it goes with several sets of operators and holds text
# with read-only data, and the worst stack, against the numbers recorded in footprint.txt. More than 3 % above fails.
#   footprint.sh CMAKE GENERATOR SOURCE BUILD TARGET TOOLCHAIN_FILE [--record]
# --record replaces the target's numbers, on purpose. Static data fails whatever is recorded. The profiler's own object
# is not counted, because a program that does not call it has none of it.
set -eu
cmake=$1 generator=$2 source=$3 build=$4 target=$5 toolchain=$6 record=${7-}
here=$source/tests/footprint
recorded=$here/footprint.txt
case $target in
    cortex-m*) size=arm-none-eabi-size ;;
    *) size=riscv64-unknown-elf-size ;;
esac

# measure NAME OPERATORS SESSIONS: "TARGET NAME TEXT STACK SELF_TEST".
measure() {
    folder=$build/$1
    CXXFLAGS=-fcallgraph-info=su "$cmake" -G "$generator" -S "$source" -B "$folder" \
        -DCMAKE_TOOLCHAIN_FILE="$toolchain" -DCMAKE_BUILD_TYPE=MinSizeRel -DTONEARM_SMALL=ON \
        -DTONEARM_OPERATORS="$2" -DTONEARM_SESSIONS="$3" -DTONEARM_BUILD_CONVERTER=OFF -DTONEARM_BUILD_TESTS=OFF \
        -DTONEARM_BUILD_EXAMPLES=OFF -DTONEARM_BUILD_BENCH=OFF >"$build/$1.log"
    "$cmake" --build "$folder" --target tonearm >>"$build/$1.log" || { cat "$build/$1.log" >&2; exit 1; }
    "$size" "$folder/lib/libtonearm.a" >"$folder/size.txt"
    awk 'NR > 1 && $2 + $3 > 0 { print "static data: " $0; found = 1 } END { exit found }' "$folder/size.txt" >&2
    find "$folder/runtime" -name '*.ci' ! -name 'profile*' -exec awk -f "$here/stack.awk" {} + >"$folder/stack.txt"
    awk -v target="$target" -v name="$1" '
        FILENAME ~ /size/ { if (FNR > 1 && $6 !~ /profile/) text += $1; next }
        /tonearm_profile/ { next }
        $2 == "tonearm_model_self_test:" { self_test = $1; next }
        $1 > stack { stack = $1 }
        END { print target, name, text, stack, self_test }' "$folder/size.txt" "$folder/stack.txt"
}

mkdir -p "$build"
{
    measure everything 'trees;affine;recurrent' ON
    measure trees-and-sessions trees ON
    measure networks-and-sessions 'affine;recurrent' ON
    measure trees trees OFF
} >"$build/footprint.txt"

if [ "$record" = --record ]; then
    { grep '^#' "$recorded"; { grep -v "^#\|^$target " "$recorded" || true; cat "$build/footprint.txt"; } | LC_ALL=C sort; } \
        >"$build/recorded.txt"
    mv "$build/recorded.txt" "$recorded"
fi
awk -v target="$target" '
    /^#/ { next }
    FILENAME == ARGV[1] { before[$1 " " $2] = $0; next }
    { now[$1 " " $2] = $0 }
    END {
        for (key in before) {
            split(before[key], known)
            if (known[1] == target && !(key in now)) { print "not measured: " key; failed = 1 }
        }
        printf "%-12s %-22s %26s %14s %20s\n", "target", "set", "text + read-only (bytes)", "worst stack", "of the self-test"
        for (key in now) {
            split(now[key], found)
            printf "%-12s %-22s %26d %14d %20d\n", found[1], found[2], found[3], found[4], found[5]
            if (!(key in before)) { print "not recorded: " key "; run with --record"; failed = 1; continue }
            split(before[key], known)
            for (i = 3; i <= 5; ++i) if (found[i] + 0 <= 0) { print "nothing was measured of " key; failed = 1 }
            if (found[1] ~ /^cortex-m/ && (found[4] > 1024 || found[5] > 1228)) {
                print "more stack than tonearm.h says: " key
                failed = 1
            }
            for (i = 3; i <= 5; ++i)
                if (found[i] > known[i] * 1.03) {
                    print "grown by more than 3 %: " key ", from " known[i] " to " found[i]
                    failed = 1
                }
        }
        exit failed
    }' "$recorded" "$build/footprint.txt"
