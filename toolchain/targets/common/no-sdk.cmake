# What the targets share whose SDK is not here: the runtime is compiled for them, and nothing runs. Set before:
# processor, triple and, if it is not "Generic", system.
if(NOT DEFINED system)
  set(system Generic)
endif()
set(CMAKE_SYSTEM_NAME ${system})
set(CMAKE_SYSTEM_VERSION 1)  # CMake looks for no SDK
set(CMAKE_SYSTEM_PROCESSOR ${processor})
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_TARGET ${triple})
  set(CMAKE_${language}_FLAGS_INIT "${cpu_flags} -nostdlibinc")
endforeach()
set(CMAKE_C_COMPILER clang-14)
set(CMAKE_CXX_COMPILER clang++-14)

# Borrowed are the headers of arm-none-eabi, newlib's and its libstdc++: they take what they need to know of the
# processor from the compiler. The runtime wants declarations of memcpy and its like only, FlatBuffers much that
# is never linked.
file(GLOB libstdcxx /usr/include/newlib/c++/*)
string(APPEND CMAKE_CXX_FLAGS_INIT " -nostdinc++ -isystem ${libstdcxx} -isystem ${libstdcxx}/arm-none-eabi")
foreach(language C CXX)
  string(APPEND CMAKE_${language}_FLAGS_INIT " -isystem /usr/include/newlib -isystem \"${CMAKE_CURRENT_LIST_DIR}/include\"")
endforeach()

set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-fuse-ld=lld -nostdlib -Wno-unused-command-line-argument")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(TONEARM_NO_SDK ON)
