# Settings shared by every target of the project; nothing here leaks into a parent project.

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
  set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
endif()

set(TONEARM_SANITIZE "" CACHE STRING "Sanitizers to build with, separated by commas: address,undefined or thread")

# tonearm_headers(VARIABLE FOLDER NAME): sets the variable to the folder to search for FOLDER/NAME, a package of
# headers alone. For another processor it is one with nothing but a link to them, because the folder that they
# lie in is full of the host's own.
function(tonearm_headers variable folder name)
  if(CMAKE_CROSSCOMPILING)
    set(linked ${PROJECT_BINARY_DIR}/headers/${name})
    file(MAKE_DIRECTORY ${linked})
    file(CREATE_LINK ${folder}/${name} ${linked}/${name} SYMBOLIC)
    set(folder ${linked})
  endif()
  set(${variable} ${folder} PARENT_SCOPE)
endfunction()

# tonearm_settings(TARGET): the language level, the warnings and the floating-point rules.
function(tonearm_settings target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF C_STANDARD 99 C_EXTENSIONS OFF)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    # No fused multiply-add unless written: the same bits on every target.
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow -ffp-contract=off
                           $<$<BOOL:${TONEARM_WERROR}>:-Werror>)
    # GCC 12 sees overlapping copies in `"text" + std::string` (GCC bug 105651).
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      target_compile_options(${target} PRIVATE -Wno-restrict)
    endif()
  endif()
  if(TONEARM_SANITIZE)
    set(sanitize -fsanitize=${TONEARM_SANITIZE} -fno-sanitize-recover=all)
    # At -O0 instrumented training takes minutes. GCC's flow warnings misread instrumented code.
    target_compile_options(${target} PRIVATE ${sanitize} -O1 -fno-omit-frame-pointer -Wno-error)
    target_link_options(${target} PRIVATE ${sanitize})
  endif()
endfunction()

# tonearm_runtime_settings(TARGET): C++ that needs no C++ library and no start-up code, so that a C program
# can link it, and that shows its users nothing but the C API. All of it is private to the target.
function(tonearm_runtime_settings target)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  # A player may link the static library into a shared one of its own, where there are shared ones.
  get_property(shared_libraries GLOBAL PROPERTY TARGET_SUPPORTS_SHARED_LIBS)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ${shared_libraries})
  # FlatBuffers' inline functions must not merge with those of another version in the player.
  target_compile_definitions(${target} PRIVATE flatbuffers=tonearm_flatbuffers)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_compile_options(${target} PRIVATE -fno-exceptions -fno-rtti -fno-threadsafe-statics)
    # Loops that are asked to be unrolled where that pays are not a mistake where it does not.
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
      target_compile_options(${target} PRIVATE -Wno-pass-failed)
    endif()
    # The C++ driver names libstdc++ and libm on every link line; nothing in here needs them.
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "SHARED_LIBRARY" AND NOT APPLE AND NOT WIN32)
      # On 32-bit processors long divisions come from the compiler's library, which is then linked in.
      target_link_options(${target} PRIVATE LINKER:--as-needed -static-libgcc)
    endif()
    # Newer phones have pages of 16 kB and load no library whose segments may lie closer.
    if(ANDROID)
      target_link_options(${target} PRIVATE LINKER:-z,max-page-size=16384)
    endif()
  endif()
endfunction()
