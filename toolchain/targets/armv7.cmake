# Debian packages: g++-arm-linux-gnueabihf qemu-user googletest
# CPUs to emulate: cortex-a7
set(processor armv7l)
set(triple arm-linux-gnueabihf)
set(emulator qemu-arm)
set(cpu_flags "-mcpu=cortex-a7 -mfpu=neon-vfpv4 -mfloat-abi=hard")
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
