# Debian packages: gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev qemu-system-arm
set(processor cortex-m7)
set(triple arm-none-eabi)
set(cpu_flags "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard")
include(${CMAKE_CURRENT_LIST_DIR}/common/bare-metal.cmake)
