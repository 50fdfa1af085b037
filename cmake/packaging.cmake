# The Debian packages that `make package` writes to build/package: slipway, the service with its command line;
# libslipway0.1 and libslipway-dev, which programs on other machines want without 20 MB of ONNX Runtime.

# What only a package installs: the system's own folders, with paths that `make install` may not have.
function(slipway_package_file file)
  install(FILES ${file} ${ARGN} COMPONENT package EXCLUDE_FROM_ALL)
endfunction()
set(packaging ${CMAKE_SOURCE_DIR}/packaging)
set(SLIPWAY_PACKAGE_CONTACT "Slipway's maintainers <maintainers@localhost>" CACHE STRING "Who answers for the packages")
configure_file(${packaging}/debian/changelog.in ${CMAKE_BINARY_DIR}/changelog @ONLY)
execute_process(COMMAND ${gzip} -9nkf ${CMAKE_BINARY_DIR}/changelog)
slipway_package_file(${packaging}/slipway.service DESTINATION lib/systemd/system)
slipway_package_file(${packaging}/slipway.sysusers DESTINATION lib/sysusers.d RENAME slipway.conf)
slipway_package_file(${manual_folder}/slipway.conf DESTINATION /etc/slipway)
slipway_package_file(${manual_folder}/slipway.zsh DESTINATION share/zsh/vendor-completions RENAME _slipway)
set(library_package libslipway${soversion})
foreach(pair package:slipway library:${library_package} development:libslipway-dev)
  string(REGEX MATCH "^([^:]+):(.+)$" pair ${pair})
  install(FILES ${packaging}/debian/copyright DESTINATION share/doc/${CMAKE_MATCH_2}
    COMPONENT ${CMAKE_MATCH_1} EXCLUDE_FROM_ALL)
  install(FILES ${CMAKE_BINARY_DIR}/changelog.gz DESTINATION share/doc/${CMAKE_MATCH_2}
    COMPONENT ${CMAKE_MATCH_1} EXCLUDE_FROM_ALL)
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT ${SLIPWAY_PACKAGE_CONTACT})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${yyjson_folder})
set(CPACK_COMPONENTS_ALL program package library development)

set(CPACK_COMPONENT_PROGRAM_GROUP service)
set(CPACK_COMPONENT_PACKAGE_GROUP service)
set(CPACK_DEBIAN_SERVICE_PACKAGE_NAME slipway)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SECTION science)
set(CPACK_DEBIAN_SERVICE_DESCRIPTION
"The service and its command line: ONNX models and sentence-transformers
folders become HTTP endpoints that are replaced without a failed request,
and collections of documents are embedded anew together with their model.")
set(CPACK_DEBIAN_SERVICE_PACKAGE_CONTROL_EXTRA
  ${packaging}/debian/postinst ${packaging}/debian/prerm ${packaging}/debian/postrm ${packaging}/debian/conffiles)
set(CPACK_DEBIAN_SERVICE_PACKAGE_DEPENDS "passwd, procps")
if(program_rpath) # it shares a private library with libslipway
  string(APPEND CPACK_DEBIAN_SERVICE_PACKAGE_DEPENDS ", ${library_package} (= ${PROJECT_VERSION})")
endif()

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ${library_package})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
file(WRITE ${CMAKE_BINARY_DIR}/shlibs "libslipway ${soversion} ${library_package} (= ${PROJECT_VERSION})\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${packaging}/debian/library/triggers ${CMAKE_BINARY_DIR}/shlibs)
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION
"The client library: what a C program needs to deploy models, embed texts
and search collections by a Slipway service.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libslipway-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${library_package} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION
"The client library, for development: header, static library, manual page
and pkg-config file of libslipway.")

include(CPack)
