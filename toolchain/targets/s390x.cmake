# Debian packages: g++-s390x-linux-gnu qemu-user googletest
set(processor s390x)
set(triple s390x-linux-gnu)
set(emulator qemu-s390x)
include(${CMAKE_CURRENT_LIST_DIR}/common/linux.cmake)
