# What `cmake --install` gives: the header, the library, find_package(tonearm CONFIG), tonearm.pc and,
# where they were built, tonearm-profile, and the `tonearm` command and its recipes.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tonearm)

install(TARGETS tonearm EXPORT tonearm
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/tonearm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN *.h)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(EXPORT tonearm FILE tonearmTargets.cmake NAMESPACE tonearm:: DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tonearmConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/tonearmConfig.cmake
  ${PROJECT_BINARY_DIR}/tonearmConfigVersion.cmake DESTINATION ${package_dir})

# The paths in tonearm.pc start from the file's own place, so that the installed tree can be moved.
file(RELATIVE_PATH pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/tonearm.pc.in ${PROJECT_BINARY_DIR}/tonearm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tonearm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TARGET tonearm_profile)
  install(TARGETS tonearm_profile RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET tonearm_command)
  install(TARGETS tonearm_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/converter/recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/tonearm
    FILES_MATCHING PATTERN *.toml)
endif()
