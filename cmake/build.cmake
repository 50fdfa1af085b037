# What the table of modules is made of, and the generated header.

set(slipway_modules "") # those that exist, in the table's order

# slipway_module(NAME USES modules... LIBS dependencies...)
# A library slipway_NAME of src/NAME/*.c. A folder without sources is left out.
function(slipway_module name)
  cmake_parse_arguments(PARSE_ARGV 1 module "" "" "USES;LIBS")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.c)
  if(NOT sources)
    slipway_missing("module ${name}: src/${name} has no sources")
    return()
  endif()

  set(links Threads::Threads)
  list(TRANSFORM module_LIBS PREPEND dep:: OUTPUT_VARIABLE dependencies)
  foreach(used IN LISTS module_USES)
    if(TARGET slipway_${used})
      list(APPEND links slipway_${used})
    endif()
  endforeach()

  # Objects, so that libslipway can be made of them as well as the archive.
  add_library(slipway_${name}_objects OBJECT ${sources})
  add_library(slipway_${name} STATIC $<TARGET_OBJECTS:slipway_${name}_objects>)
  add_dependencies(slipway_${name}_objects slipway_version)
  target_compile_options(slipway_${name}_objects PRIVATE ${slipway_warnings})
  set_target_properties(slipway_${name} PROPERTIES ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/modules)
  foreach(target slipway_${name}_objects slipway_${name})
    target_include_directories(${target} PUBLIC
      ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include ${slipway_generated})
    target_link_libraries(${target} PUBLIC ${links} ${dependencies})
  endforeach()
  set(slipway_modules ${slipway_modules} ${name} PARENT_SCOPE)
endfunction()

# Only for the lint: a compiler cannot tell who includes what.
function(slipway_header name)
endfunction()

# People work on the parts at the same time, so a part that is not there yet is
# only told; in CI it is an error.
function(slipway_missing what)
  if(SLIPWAY_COMPLETE)
    message(FATAL_ERROR "missing: ${what}")
  endif()
  message(STATUS "left out: ${what}")
endfunction()

# slipway_version.h follows the repository at each build, and is written only
# when it changes.
set(slipway_generated ${CMAKE_BINARY_DIR}/generated)
add_custom_target(slipway_version
  COMMAND ${CMAKE_COMMAND} -D source=${CMAKE_SOURCE_DIR} -D output=${slipway_generated}/slipway_version.h
          -D version=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/cmake/version.cmake
  BYPRODUCTS ${slipway_generated}/slipway_version.h
  COMMENT "Looking at the version" VERBATIM)
