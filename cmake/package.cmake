# What others build against: pkg-config's stn.pc and the CMake package stn (stn::headers for plugins,
# stn::stn for programs that embed the library), man pages.
include(CMakePackageConfigHelpers)

install(EXPORT stnTargets NAMESPACE stn:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stn)
configure_package_config_file(cmake/stnConfig.cmake.in ${CMAKE_BINARY_DIR}/stnConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stn PATH_VARS STN_PLUGIN_INSTALL)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/stnConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/stnConfig.cmake ${CMAKE_BINARY_DIR}/stnConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stn)

file(RELATIVE_PATH STN_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/stn.pc.in ${CMAKE_BINARY_DIR}/stn.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/stn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

file(GLOB STN_MAN1 ${CMAKE_SOURCE_DIR}/docs/man/*.1)
file(GLOB STN_MAN7 ${CMAKE_SOURCE_DIR}/docs/man/*.7)
install(FILES ${STN_MAN1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${STN_MAN7} DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
