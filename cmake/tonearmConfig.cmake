# find_package(tonearm CONFIG) gives the target tonearm::tonearm. It is a C library with no dependencies.

include(${CMAKE_CURRENT_LIST_DIR}/tonearmTargets.cmake)

# It is written in C++ but needs no C++ library: a C program links it with the C compiler.
get_target_property(tonearm_configurations tonearm::tonearm IMPORTED_CONFIGURATIONS)
foreach(tonearm_configuration IN LISTS tonearm_configurations)
  set_property(TARGET tonearm::tonearm
               PROPERTY IMPORTED_LINK_INTERFACE_LANGUAGES_${tonearm_configuration} C)
endforeach()
unset(tonearm_configurations)
unset(tonearm_configuration)
