#!/bin/sh
# The object file $1 defines one symbol that a linker can see, and that is data: its function table.
# A weak or global function in it, compiled for a newer processor, could replace one of the baseline.
symbols=$(nm --extern-only --defined-only "$1") || exit 1
echo "$symbols"
[ "$(echo "$symbols" | wc -l)" = 1 ] && echo "$symbols" | grep -q ' [DR] '
