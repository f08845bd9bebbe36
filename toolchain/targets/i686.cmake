# Debian packages: g++-i686-linux-gnu qemu-user googletest
# CPUs to emulate: coreduo max
set(processor i686)
set(triple i686-linux-gnu)
set(emulator qemu-i386)
# Not the x87 unit, whose results depend on when they leave its 80-bit registers.
set(cpu_flags "-msse2 -mfpmath=sse")
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
