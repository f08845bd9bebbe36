# Debian packages: g++-aarch64-linux-gnu qemu-user googletest
# CPUs to emulate: cortex-a53 cortex-a76
set(processor aarch64)
set(triple aarch64-linux-gnu)
set(emulator qemu-aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
