# Debian packages: clang-14 lld-14 libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev
set(processor aarch64)
set(triple aarch64-linux-android24)
set(system Android)
include(${CMAKE_CURRENT_LIST_DIR}/common/no-sdk.cmake)
