#!/bin/sh
# symbols.sh NM OBJDUMP PROCESSOR LIBTONEARM.A [KERNELS_SET]...: proves from the object code that the runtime allocates
# nothing, keeps no state, needs no C++ library and no libm, and cannot clash with anything in the program that links
# it; and that the sources of kernels given (trees_avx2, say) are its only code for their instruction sets.
set -eu
nm=$1 objdump=$2 processor=$3 library=$4
shift 4
failed=0

# allow_none WHAT OFFENDERS: fails if there are any.
allow_none() {
    [ -n "$2" ] || return 0
    printf 'The runtime %s:\n%s\n\n' "$1" "$2"
    failed=1
}

defined=$("$nm" --defined-only --extern-only "$library" | awk 'NF == 3 { print $3 }')
undefined=$("$nm" --undefined-only "$library" | awk '$1 == "U" { print $2 }' | sort -u)

# An empty list would pass every check below.
for symbol in tonearm_model_open tonearm_evaluate; do
    echo "$defined" | grep -qx "$symbol" || { echo "$library does not define $symbol"; exit 1; }
done

# What a freestanding C compiler expects of its surroundings, and what it calls of its own where the processor has
# no instruction: divisions and shifts of 64 bits, arithmetic of float32 but none of float64. No more.
expected='mem(cpy|move|set|cmp)|str(len|cmp|ncmp)|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail'
own='^tonearm_|^_ZN?K?(7tonearm|19tonearm_flatbuffers)'
case $processor in
    arm* | cortex-m*) expected="$expected|__aeabi_u?ldivmod" ;;
    i?86)
        expected="$expected|__u?(div|mod)di3"
        own="$own|^__x86.get_pc_thunk" # the same in every object
        ;;
    rv32imc) expected="$expected|__(u?div|u?mod|ashl|ashr|lshr)di3|__(add|sub|mul|div)sf3|__(eq|ge|gt|le|lt)sf2"
        expected="$expected|__fix(uns)?sfsi|__float(un)?sisf" ;;
    wasm32) expected="$expected|__stack_pointer" ;;
esac
allow_none 'calls what it must do without' "$(echo "$undefined" | grep -vxF "$defined" | grep -vxE "$expected")"

# Sections, not symbols, because data without a name counts too. .data.rel.ro holds constants with
# addresses in them: the loader alone writes it. Objects of WebAssembly have no such sections.
sections=$("$objdump" --section-headers "$library")
echo "$sections" | grep -qE ' (\.text|CODE)' || { echo "$objdump shows no sections of $library"; exit 1; }
allow_none 'has writable data, or code that runs before main' "$(echo "$sections" |
    awk '$2 ~ /^\.(data|bss|tdata|tbss|init_array|ctors)/ && $2 !~ /^\.data\.rel\.ro/ && $3 !~ /^0+$/ { print $2, $3 }')"
allow_none 'has common symbols' "$("$nm" "$library" | awk '$2 == "C" { print $3 }')"

allow_none 'defines names that are not its own' "$(echo "$defined" | grep -vE "$own")"

# A weak or inline function in an object for a newer processor could be the one that is linked for all. So each
# defines nothing, weak or not, but functions named after its instruction set, and calls no function of ours.
for kernels in "$@"; do
    set=${kernels#*_}
    object=$("$nm" --print-file-name --extern-only "$library" | sed -n "s/^.*[:[]$kernels\.[^ ]*: *//p")
    echo "$object" | grep -qE " T tonearm_[a-z_]+_$set\$" ||
        { echo "$library has no kernels of $kernels"; failed=1; }
    allow_none "has other symbols than kernels for $set in the object of $kernels" "$(echo "$object" |
        grep -vE " T tonearm_[a-z_]+_$set\$|^ *U (mem(cpy|set)|tonearm_sigmoid_table|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__stack_pointer)\$")"
done

exit $failed
