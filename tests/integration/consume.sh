#!/bin/sh
# consume.sh WAY CMAKE GENERATOR CC CXX SOURCE WORK: builds and runs a C program that uses Tonearm in one
# of three ways, in the folder WORK:
#   installed_static, installed_shared   installed, moved elsewhere, then found by CMake and by pkg-config
#   subdirectory                         built as a part of the program's own build
# For another processor, CMAKE_TOOLCHAIN_FILE and EMULATOR, a list of words, are in the environment.
# shellcheck disable=SC2086
set -eu
way=$1 cmake=$2 generator=$3 cc=$4 cxx=$5 source=$6 work=$7
consumer=$source/tests/integration/consumer

rm -rf "$work"
mkdir -p "$work"
# Nothing of a Tonearm that this machine may have installed.
unset CMAKE_PREFIX_PATH PKG_CONFIG_PATH LD_LIBRARY_PATH

configure() {
    "$cmake" -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER="$cc" "$@" >"$work/log" 2>&1 ||
        { cat "$work/log"; exit 1; }
}
build() {
    "$cmake" --build "$1" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}
# needs_only_libc PROGRAM: apart from Tonearm, the C library and what the loader adds.
needs_only_libc() {
    others=$(objdump -p "$1" | awk '$1 == "NEEDED" && $2 !~ /^(libtonearm|libc|ld-)/ { print $2 }')
    [ -z "$others" ] || { echo "$1 needs $others"; exit 1; }
}

if [ "$way" = subdirectory ]; then
    configure -S "$consumer" -B "$work/consumer" -DCMAKE_CXX_COMPILER="$cxx" -DTONEARM_SOURCE="$source"
    build "$work/consumer"
    ${EMULATOR-} "$work/consumer/consumer"
    exit
fi

case $way in
    installed_static) shared=OFF ;;
    installed_shared) shared=ON ;;
    *) echo "unknown way: $way"; exit 2 ;;
esac
configure -S "$source" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" -DBUILD_SHARED_LIBS=$shared \
    -DTONEARM_BUILD_CONVERTER=OFF -DTONEARM_BUILD_TESTS=OFF -DTONEARM_BUILD_EXAMPLES=OFF
build "$work/build"
"$cmake" --install "$work/build" --prefix "$work/first" >"$work/log"
mv "$work/first" "$work/prefix"
rm -rf "$work/build"

configure -S "$consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix"
build "$work/consumer"
${EMULATOR-} "$work/consumer/consumer"
needs_only_libc "$work/consumer/consumer"

libraries=$(dirname "$(find "$work/prefix" -name 'libtonearm.*' | head -n 1)")
export PKG_CONFIG_PATH="$libraries/pkgconfig"
[ "$(pkg-config --modversion tonearm)" = "$(sed -n 's/^project(tonearm VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")" ]
# The flags are a list of words.
# shellcheck disable=SC2046
"$cc" -std=c99 -Wall -Wextra -Werror "$consumer/main.c" $(pkg-config --cflags --libs tonearm) -o "$work/plain"
LD_LIBRARY_PATH="$libraries" ${EMULATOR-} "$work/plain"
needs_only_libc "$work/plain"

if [ $shared = ON ]; then
    library=$(find "$libraries" -name 'libtonearm.so' | head -n 1)
    [ "$(readlink "$library")" = libtonearm.so.0 ] || { echo "no libtonearm.so.0"; exit 1; }
    needs_only_libc "$library"
    others=$(nm -D --defined-only "$library" | awk '$3 !~ /^tonearm_/ { print $3 }')
    [ -z "$others" ] || { echo "exports beyond the C API: $others"; exit 1; }
fi
