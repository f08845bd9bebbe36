# Debian packages: clang-14 lld-14 libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev
set(processor armv7-a)
set(triple armv7a-linux-androideabi24)
set(system Android)
include(${CMAKE_CURRENT_LIST_DIR}/common/no-sdk.cmake)
