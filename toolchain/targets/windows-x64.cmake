# Debian packages: clang-14 lld-14 libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev
set(processor AMD64)
set(triple x86_64-pc-windows-msvc)
# Neither the borrowed headers nor CMake's modules would know Clang by Microsoft's name; and they lack what its
# mm_malloc.h, which nobody wants, calls on Windows.
set(cpu_flags "-U_MSC_VER -fgnuc-version=12.2.0 -D__STRICT_ANSI__ -D__MM_MALLOC_H")
include(${CMAKE_CURRENT_LIST_DIR}/common/no-sdk.cmake)
