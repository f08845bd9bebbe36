# What the targets without an operating system share. Set before: processor, triple and cpu_flags.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_CXX_COMPILER ${triple}-g++)
# One section per function and object, so that the firmware keeps what it uses.
set(CMAKE_C_FLAGS_INIT "${cpu_flags} -ffunction-sections -fdata-sections")
set(CMAKE_CXX_FLAGS_INIT "${cpu_flags} ${cxx_flags} -ffunction-sections -fdata-sections")
set(CMAKE_ASM_FLAGS_INIT "${cpu_flags}")

# A program needs the start-up code and linker script of a board; CMake's checks have none.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
