# What is built from the modules and installed: the program and the library.

# Beside the program in the build folder, in a folder of ours when installed:
# the program looks in both places, seen from where it lies itself.
file(RELATIVE_PATH libdir_from_bindir ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set(slipway_private_libdir ${CMAKE_INSTALL_LIBDIR}/slipway)
if(TARGET slipway_runner_objects)
  target_compile_definitions(slipway_runner_objects PRIVATE
    SLIPWAY_ORT_LIBRARY_INSTALLED="${libdir_from_bindir}/slipway/libonnxruntime.so"
    SLIPWAY_ORT_LIBRARY_BUILT="deps/onnxruntime/lib/libonnxruntime.so")
endif()
if(NOT CMAKE_BINARY_DIR STREQUAL ${CMAKE_SOURCE_DIR}/build)
  file(CREATE_LINK ${slipway_deps} ${CMAKE_BINARY_DIR}/deps SYMBOLIC)
endif()
install(FILES ${slipway_deps}/onnxruntime/lib/libonnxruntime.so DESTINATION ${slipway_private_libdir} COMPONENT program)
install(FILES ${slipway_deps}/onnxruntime/ThirdPartyNotices.txt TYPE DOC RENAME onnxruntime-notices.txt COMPONENT program)
install(FILES ${slipway_deps}/onnxruntime/LICENSE TYPE DOC RENAME onnxruntime-license.txt COMPONENT local)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE TYPE DOC COMPONENT local)

# On Debian 12, yyjson is not the system's: it goes where ONNX Runtime goes.
cmake_path(IS_PREFIX slipway_deps ${yyjson_library} yyjson_is_ours)
if(yyjson_is_ours AND yyjson_library MATCHES "\\.so$")
  file(REAL_PATH ${yyjson_library} yyjson_real)
  cmake_path(GET yyjson_library PARENT_PATH yyjson_folder)
  install(FILES ${yyjson_real} ${yyjson_folder}/libyyjson.so.0 DESTINATION ${slipway_private_libdir} COMPONENT library)
  set(program_rpath $ORIGIN/${libdir_from_bindir}/slipway)
  set(library_rpath $ORIGIN/slipway)
endif()

# ---- the program -------------------------------------------------------------

file(GLOB main CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/main.c)
if(main)
  add_executable(slipway ${main})
  target_compile_options(slipway PRIVATE ${slipway_warnings})
  list(TRANSFORM slipway_modules PREPEND slipway_ OUTPUT_VARIABLE module_targets)
  target_link_libraries(slipway PRIVATE ${module_targets})
  set_target_properties(slipway PROPERTIES INSTALL_RPATH "${program_rpath}")
  install(TARGETS slipway COMPONENT program)
else()
  slipway_missing("the program: there is no src/main.c")
endif()

# ---- the library -------------------------------------------------------------

file(GLOB header CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/slipway.h)
if(NOT TARGET slipway_client OR NOT TARGET slipway_base OR NOT header)
  slipway_missing("libslipway: it needs src/client, src/base and include/slipway.h")
  return()
endif()

# While the major version is 0, each minor one may break what was.
set(library_objects $<TARGET_OBJECTS:slipway_client_objects> $<TARGET_OBJECTS:slipway_base_objects>)
set(soversion ${PROJECT_VERSION_MAJOR})
if(soversion EQUAL 0)
  set(soversion 0.${PROJECT_VERSION_MINOR})
endif()
add_library(libslipway SHARED ${library_objects})
target_link_libraries(libslipway PRIVATE slipway_client)
target_link_options(libslipway PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/libslipway.map)
if(NOT SLIPWAY_SANITIZE) # whose functions are the program's
  target_link_options(libslipway PRIVATE LINKER:--no-undefined)
endif()
set_target_properties(libslipway PROPERTIES
  OUTPUT_NAME slipway VERSION ${PROJECT_VERSION} SOVERSION ${soversion}
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/libslipway.map
  INSTALL_RPATH "${library_rpath}")

# The static one keeps its inner names to itself as well: one object, in which
# all but slipway_* is made local.
set(archive ${CMAKE_BINARY_DIR}/libslipway.a)
add_custom_command(OUTPUT ${archive}
  COMMAND ${CMAKE_LINKER} -r -o libslipway.o ${library_objects}
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=slipway_* libslipway.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
  COMMAND ${CMAKE_AR} rcs ${archive} libslipway.o
  DEPENDS slipway_client_objects slipway_base_objects ${library_objects}
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} COMMAND_EXPAND_LISTS VERBATIM
  COMMENT "Linking C static library libslipway.a")
add_custom_target(libslipway_static ALL DEPENDS ${archive})

set(private_libraries -lyyjson)
if(library_rpath)
  set(private_libraries "-L\${libdir}/slipway -Wl,-rpath,\${libdir}/slipway -l:libyyjson.so.0")
endif()
file(RELATIVE_PATH prefix_from_pkgconfig
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" prefix_from_pkgconfig ${prefix_from_pkgconfig})
configure_file(${CMAKE_SOURCE_DIR}/cmake/slipway.pc.in slipway.pc @ONLY)
install(TARGETS libslipway LIBRARY COMPONENT library NAMELINK_COMPONENT development)
install(FILES ${archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES ${header} TYPE INCLUDE COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/slipway.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
