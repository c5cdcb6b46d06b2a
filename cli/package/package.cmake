# Packages: `cpack -G DEB` for Debian, `cpack -G TGZ` for a directory of one's own.
file(STRINGS ${PROJECT_SOURCE_DIR}/include/portwrap/protocol.hpp said REGEX "k_version = \"")
if(NOT said MATCHES "\"${PROJECT_VERSION}\"")
  message(FATAL_ERROR "include/portwrap/protocol.hpp and CMakeLists.txt name different versions")
endif()

set(CPACK_GENERATOR "DEB;TGZ")
set(CPACK_PACKAGE_NAME portwrap)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR "the portwrap authors")
set(CPACK_PACKAGE_CONTACT "the portwrap authors <maintainers@portwrap.example>" CACHE STRING "The packages' maintainer: NAME <ADDRESS>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "gives every project and worktree its own development ports")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_FILE_NAME portwrap-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES ON)
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_LIST_DIR}/generator.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/finish.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # of the agent; the other programs are static, the shim links nothing
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"portwrap COMMAND runs a development server unchanged. If the port that it
asks for belongs to another project, a small preloaded library gives it
another one, the same every day, and connections between the parts of one
project follow.

A background agent of each user remembers who has which port; portctl asks
it, shows ports in shell prompts, and serves coding agents over MCP.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${CMAKE_CURRENT_LIST_DIR}/postinst;${CMAKE_CURRENT_LIST_DIR}/prerm;${CMAKE_CURRENT_LIST_DIR}/postrm")

# What only the Debian package has.
install(FILES ${CMAKE_CURRENT_LIST_DIR}/copyright DESTINATION share/doc/portwrap COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/changelog DESTINATION share/doc/portwrap COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/lintian-overrides DESTINATION share/lintian/overrides RENAME portwrap
  COMPONENT debian EXCLUDE_FROM_ALL)
# Elsewhere the licence comes along.
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/doc/portwrap COMPONENT licence)

include(CPack)
