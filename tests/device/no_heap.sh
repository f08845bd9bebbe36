#!/bin/sh
# no_heap.sh NM PROGRAM: fails if a program for a device holds anything that allocates, throws or formats.
set -eu
symbols=$("$1" "$2")
found=$(printf '%s\n' "$symbols" |
  grep -E ' (_?_?(malloc|calloc|realloc|free|sbrk)(_r)?|_Zn[wa].*|_Zd[la].*|__cxa_.*|_Unwind_.*|.*printf)$' || true)
[ -z "$found" ] || { echo "in $2:"; echo "$found"; exit 1; } >&2
# A program whose symbols were stripped would pass anything.
printf '%s\n' "$symbols" | grep -q ' tonearm_model_open$' || { echo "$2 has no symbols" >&2; exit 1; }
