#!/bin/sh
# pages.sh READELF LIBRARY: proves that a shared library can be loaded where pages are of 16 kB.
set -eu
alignments=$("$1" -lW "$2" | awk '$1 == "LOAD" { print $NF }')
[ -n "$alignments" ] || { echo "$2 has no segments to load"; exit 1; }
for alignment in $alignments; do
    [ $((alignment)) -ge 16384 ] || { echo "$2 has a segment aligned to $alignment, not 0x4000"; exit 1; }
done
