# Debian packages: g++ qemu-user googletest
# CPUs to emulate: Nehalem Haswell max
set(processor x86_64)
set(triple x86_64-linux-gnu)
set(emulator qemu-x86_64)
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
