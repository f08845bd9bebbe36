#!/bin/sh
# memory.sh CMAKE GENERATOR SOURCE WORK: opens, plays and evaluates every golden blob under MemorySanitizer, which sees
# what is read before it is written. It needs Clang, and all code instrumented: the runtime and one program.
set -eu
cmake=$1 generator=$2 source=$3 work=$4
if ! clang++-14 -print-file-name="libclang_rt.msan-$(uname -m).a" 2>/dev/null | grep -q /; then
    echo 'skipped: Clang 14 with MemorySanitizer is missing: toolchain/packages clang-14 libclang-rt-14-dev'
    exit 77
fi
mkdir -p "$work"
sanitize='-fsanitize=memory -fno-sanitize-recover=all -fsanitize-memory-track-origins -fno-omit-frame-pointer -g1 -O1'
"$cmake" -G "$generator" -S "$source/tests/fuzz" -B "$work" -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 \
    -DTONEARM_FUZZ_INSTRUMENTED="$sanitize" >"$work/log" 2>&1 &&
    "$cmake" --build "$work" --target standalone_blob >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/standalone_blob" "$source"/tests/conformance/format-*/*.tarm
