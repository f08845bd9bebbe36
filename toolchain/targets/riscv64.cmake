# Debian packages: g++-riscv64-linux-gnu qemu-user googletest
set(processor riscv64)
set(triple riscv64-linux-gnu)
set(emulator qemu-riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
