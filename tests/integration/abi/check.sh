#!/bin/sh
# check.sh WHAT CMAKE GENERATOR CC CXX SOURCE WORK: compares the binary interface of the shared library with the one
# that is kept here: what was added is fine, what was removed or changed is not.
#   kept      compares
#   changed   makes sure that a changed struct, a changed enumerator and a removed function are found
#   record    keeps the interface as it is now: for a release, and where a change is meant
set -eu
what=$1 cmake=$2 generator=$3 cc=$4 cxx=$5 source=$6 work=$7
here=$source/tests/integration/abi
kept=$(find "$here" -name 'tonearm-*.abi.xml' | sort -V | tail -n 1)

for program in abidw abidiff; do
    command -v $program >/dev/null || { echo "skipped: $program is missing: toolchain/packages abigail-tools"; exit 77; }
done

# build FOLDER: makes the sources there, without kernels, a shared library: $built.
build() {
    "$cmake" -G "$generator" -S "$1" -B "$1.build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
        -DCMAKE_BUILD_TYPE=Debug -DBUILD_SHARED_LIBS=ON -DTONEARM_SIMD=OFF -DTONEARM_BUILD_CONVERTER=OFF \
        -DTONEARM_BUILD_TESTS=OFF -DTONEARM_BUILD_EXAMPLES=OFF >"$work/log" 2>&1 &&
        "$cmake" --build "$1.build" --target tonearm >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    built=$(find "$1.build" -name 'libtonearm.so.*.*.*')
}
# interface FOLDER LIBRARY: what a program sees of it, as XML.
interface() {
    abidw --headers-dir "$1/runtime/include/tonearm" --drop-private-types --exported-interfaces-only \
        --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --type-id-style hash "$2" |
        sed "s#path='[^']*/runtime/#path='runtime/#"
}
# Most enumerators are in no function's signature.
enumerators() {
    "$cc" -E -P "$1/runtime/include/tonearm/tonearm.h" | tr -s ' \n' ' ' |
        grep -oE 'TONEARM_[A-Z0-9_]+ = -?[0-9]+' | sort
}
# members XML: every member of every struct with its place and type, so that what was added at an end can be told
# from what was changed. The kind of type-id is a hash of the type's name.
members() {
    awk -F "'" '
        /<class-decl / { class = $2 }
        /<data-member / { place = $4 }
        /<var-decl / { print class, place, $2, $4 }
        /<function-decl / { name = $2; print name }
        /<parameter |<return / { print name, ++parameter[name], $2 }' "$1" | sort
}
# is_kept FOLDER: whether its interface has all that is kept.
is_kept() {
    build "$1"
    interface "$1" "$built" >"$work/now.abi.xml"
    status=0
    # "Structs that start with struct_size may gain fields at their end": abidiff calls that a change, too.
    if ! abidiff --no-added-syms "$kept" "$work/now.abi.xml" >"$work/changes"; then
        members "$kept" >"$work/members.kept"
        members "$work/now.abi.xml" >"$work/members"
        lost=$(comm -23 "$work/members.kept" "$work/members")
        fixed=$(abidiff --no-added-syms "$kept" "$work/now.abi.xml" |
            grep -A 1 -E "'struct tonearm_(model|session)' changed" || true)
        [ -z "$lost$fixed" ] || { cat "$work/changes"; status=1; }
    fi
    enumerators "$1" >"$work/enumerators"
    lost=$(comm -23 "$here/enumerators.txt" "$work/enumerators")
    [ -z "$lost" ] || { echo "enumerators removed or changed: $lost"; status=1; }
    return "$status"
}
# copy: the sources that the library is made of, to be changed.
copy() {
    rm -rf "$work/copy" "$work/copy.build"
    mkdir -p "$work/copy"
    for part in CMakeLists.txt LICENSE cmake examples runtime schemas; do cp -R "$source/$part" "$work/copy"; done
}

rm -rf "$work"
mkdir -p "$work"
export LC_ALL=C
case $what in
    record)
        version=$(sed -n 's/^project(tonearm VERSION \([0-9]*\.[0-9]*\).*/\1/p' "$source/CMakeLists.txt")
        copy
        build "$work/copy"
        interface "$work/copy" "$built" >"$here/tonearm-$version.abi.xml"
        enumerators "$source" >"$here/enumerators.txt"
        ;;
    kept)
        copy
        is_kept "$work/copy"
        ;;
    changed)
        copy
        header=$work/copy/runtime/include/tonearm/tonearm.h
        is_kept "$work/copy" >"$work/same" || { cat "$work/same"; exit 1; }
        # refused WHAT EXPRESSION: with the header so changed, it is no longer kept.
        refused() {
            cp "$source/runtime/include/tonearm/tonearm.h" "$header"
            sed -i "$2" "$header"
            ! cmp -s "$source/runtime/include/tonearm/tonearm.h" "$header" || { echo "$1: nothing was changed"; exit 1; }
            ! is_kept "$work/copy" >"$work/found" || { echo "$1 is not found"; exit 1; }
        }
        refused 'a member that is wider' 's/^    uint32_t place; /    uint64_t place; /'
        refused 'a member at the end of a struct without a size' 's/^    uint32_t private_state\[20\];/&\n    uint32_t more;/'
        refused 'a function that is hidden' 's/^TONEARM_API \(uint32_t tonearm_cpu_detect\)/__attribute__((visibility("hidden"))) \1/'
        refused 'an enumerator of another value' 's/TONEARM_QUEUE = 2/TONEARM_QUEUE = 4/'
        # What may be done: a member at the end of a struct that has a size.
        cp "$source/runtime/include/tonearm/tonearm.h" "$header"
        sed -i 's/^} tonearm_session_info;/    uint64_t added;\n} tonearm_session_info;/' "$header"
        is_kept "$work/copy" || { echo 'a member at the end is refused'; exit 1; }
        ;;
    *) echo "unknown: $what"; exit 2 ;;
esac
