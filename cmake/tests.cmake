# Tests in C. Each file of test/unit and test/contract is one program over
# cmocka and all modules; each test/fuzz/fuzz_NAME.c is a parser's entry, which
# a normal build runs over test/fuzz/corpus/NAME. They run in the source folder.
# What they share lies in test/support and test/fakes; each test/tools/NAME.c is a
# program that a test calls. All of them are built in the folder test.

enable_testing()
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)
list(TRANSFORM slipway_modules PREPEND slipway_ OUTPUT_VARIABLE module_targets)

file(GLOB support CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/support/*.c ${CMAKE_SOURCE_DIR}/test/fakes/*.c)
if(support)
  add_library(slipway_test_support STATIC ${support})
  target_compile_options(slipway_test_support PRIVATE ${slipway_warnings})
  target_include_directories(slipway_test_support PUBLIC ${CMAKE_SOURCE_DIR}/test)
  target_link_libraries(slipway_test_support PUBLIC ${module_targets} PkgConfig::cmocka)
  list(PREPEND module_targets slipway_test_support)
endif()

function(slipway_test_program name source)
  add_executable(${name} ${source} ${ARGN})
  target_compile_options(${name} PRIVATE ${slipway_warnings})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/test)
  target_link_libraries(${name} PRIVATE ${module_targets})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
endfunction()

function(slipway_test name label)
  add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 900)
endfunction()

# ---- unit, contract ----------------------------------------------------------

# Where more than one thread is at work; `tools/test tsan` builds and runs only these. The engine's own tests are not
# among them: they change settings under the running engine.
set(slipway_threaded
  "^unit_(collection_.*|vector_(search|word)|indexer_.*|gateway_.*|http_.*|runner_(batch|pool|v2)|controller_(operations|routing))$")
add_custom_target(threaded_tests)

foreach(kind unit contract)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/${kind}/*.c)
  if(NOT sources)
    slipway_missing("test/${kind} has no tests")
  endif()
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    set(name ${kind}_${name})
    slipway_test_program(${name} ${source})
    target_link_libraries(${name} PRIVATE PkgConfig::cmocka)
    if(name MATCHES ${slipway_threaded})
      slipway_test(${name} "${kind};threaded" ${name})
      add_dependencies(threaded_tests ${name})
    else()
      slipway_test(${name} ${kind} ${name})
    endif()
  endforeach()
endforeach()

# ---- programs that tests call -------------------------------------------------

file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/tools/*.c)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  slipway_test_program(${name} ${source})
endforeach()

# ---- the program that stops at named points (src/base/pause.h) ------------------

if(TARGET slipway)
  list(TRANSFORM slipway_modules PREPEND slipway_ OUTPUT_VARIABLE product_targets)
  add_executable(slipway_paused ${CMAKE_SOURCE_DIR}/src/main.c ${CMAKE_SOURCE_DIR}/test/pause/pause_files.c)
  target_compile_options(slipway_paused PRIVATE ${slipway_warnings})
  target_link_libraries(slipway_paused PRIVATE ${product_targets})
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/test)
  file(CREATE_LINK ${slipway_deps} ${CMAKE_BINARY_DIR}/test/deps SYMBOLIC) # it looks for ONNX Runtime beside itself
  set_target_properties(slipway_paused PROPERTIES
    OUTPUT_NAME slipway-paused RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
endif()

# ---- programs to upgrade to (test/system/test_upgrade.py) ------------------------

function(slipway_upgrade_program name)
  add_executable(slipway_${name} ${ARGN})
  target_compile_options(slipway_${name} PRIVATE ${slipway_warnings})
  target_include_directories(slipway_${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(slipway_${name} PRIVATE ${product_targets})
  set_target_properties(slipway_${name} PROPERTIES
    OUTPUT_NAME slipway-${name} RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
endfunction()

if(TARGET slipway)
  slipway_upgrade_program(next ${CMAKE_SOURCE_DIR}/src/main.c ${CMAKE_SOURCE_DIR}/test/upgrade/next.c)
  slipway_upgrade_program(refuses ${CMAKE_SOURCE_DIR}/test/upgrade/refuses.c)
  slipway_upgrade_program(fails ${CMAKE_SOURCE_DIR}/test/upgrade/fails.c)
endif()

# ---- fuzz --------------------------------------------------------------------

file(GLOB replay_main CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/fuzz/replay_main.c)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/fuzz/fuzz_*.c)
if(NOT sources OR (NOT SLIPWAY_FUZZ AND NOT replay_main))
  slipway_missing("fuzz targets: they are test/fuzz/fuzz_*.c with replay_main.c")
  return()
endif()
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  string(REGEX REPLACE "^fuzz_" "" corpus ${name})
  set(corpus ${CMAKE_SOURCE_DIR}/test/fuzz/corpus/${corpus})
  if(SLIPWAY_FUZZ)
    slipway_test_program(${name} ${source})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    slipway_test(${name} fuzz ${name} -runs=0 ${corpus})
  else()
    slipway_test_program(${name} ${source} ${replay_main})
    slipway_test(${name} fuzz ${name} ${corpus})
  endif()
  target_compile_options(${name} PRIVATE -Wno-missing-prototypes) # libFuzzer has no header
endforeach()
