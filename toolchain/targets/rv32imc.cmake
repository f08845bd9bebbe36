# Debian packages: gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf libstdc++-arm-none-eabi-dev qemu-system-misc
set(processor rv32imc)
set(triple riscv64-unknown-elf)
set(cpu_flags "-march=rv32imc -mabi=ilp32 --specs=picolibc.specs")
# Debian has no C++ headers for this compiler. Borrowed are those of arm-none-eabi, the same libstdc++ set up
# for newlib, of which picolibc is a descendant. FlatBuffers includes them; nothing in them is linked.
file(GLOB libstdcxx /usr/include/newlib/c++/*)
set(cxx_flags "-isystem ${libstdcxx} -isystem ${libstdcxx}/arm-none-eabi")
include(${CMAKE_CURRENT_LIST_DIR}/common/bare-metal.cmake)
