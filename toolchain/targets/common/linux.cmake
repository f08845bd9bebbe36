# What the Linux targets share. Set before: processor, triple (of Debian's cross compiler), emulator (of
# qemu-user) and, where the compiler's own choice is not the one, cpu_flags.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_CXX_COMPILER ${triple}-g++)
set(CMAKE_C_FLAGS_INIT "${cpu_flags}")
set(CMAKE_CXX_FLAGS_INIT "${cpu_flags}")
set(CMAKE_CROSSCOMPILING_EMULATOR ${emulator};-L;/usr/${triple})

# Programs and packages of headers are the host's; its libraries would not link.
set(CMAKE_FIND_ROOT_PATH /usr/${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
