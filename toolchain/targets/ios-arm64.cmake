# Debian packages: clang-14 lld-14 libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev
set(processor arm64)
set(triple arm64-apple-ios14)
include(${CMAKE_CURRENT_LIST_DIR}/common/no-sdk.cmake)
