# What is made of the tables and installed beside the program: manual pages, by tools/manual, and the shells' completion,
# which the program prints itself.

find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
find_program(gzip gzip REQUIRED)
set(manual_folder ${CMAKE_BINARY_DIR}/manual)
file(MAKE_DIRECTORY ${manual_folder})
file(GLOB manual_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/man/*.in ${CMAKE_SOURCE_DIR}/src/*/*.def)
list(APPEND manual_sources ${CMAKE_SOURCE_DIR}/tools/manual ${CMAKE_SOURCE_DIR}/tools/document
  ${CMAKE_SOURCE_DIR}/include/slipway.h)
set(manual_files "")

# slipway_generated_file(FILE INPUTS files... COMMAND words...): what the command prints.
function(slipway_generated_file file)
  cmake_parse_arguments(PARSE_ARGV 1 made "" "" "INPUTS;COMMAND")
  add_custom_command(OUTPUT ${manual_folder}/${file}
    COMMAND ${made_COMMAND} > ${manual_folder}/${file}.part
    COMMAND ${CMAKE_COMMAND} -E rename ${manual_folder}/${file}.part ${manual_folder}/${file}
    DEPENDS ${made_INPUTS} VERBATIM)
  set(manual_files ${manual_files} ${manual_folder}/${file} PARENT_SCOPE)
endfunction()

set(print ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/manual)
foreach(page slipway.1 libslipway.3 slipway.conf.5 slipway-serve.8)
  slipway_generated_file(${page} INPUTS ${manual_sources} COMMAND ${print} ${page})
  slipway_generated_file(${page}.gz INPUTS ${manual_folder}/${page} COMMAND ${gzip} -9nc ${manual_folder}/${page})
  string(REGEX MATCH "[0-9]$" section ${page})
  set(component program)
  if(section EQUAL 3)
    set(component development)
  endif()
  install(FILES ${manual_folder}/${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
endforeach()
slipway_generated_file(slipway.conf INPUTS ${manual_sources} COMMAND ${print} slipway.conf)

if(TARGET slipway)
  foreach(shell bash zsh fish)
    slipway_generated_file(slipway.${shell} INPUTS slipway COMMAND slipway completion ${shell})
  endforeach()
  install(FILES ${manual_folder}/slipway.bash RENAME slipway
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT program)
  install(FILES ${manual_folder}/slipway.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT program)
  install(FILES ${manual_folder}/slipway.zsh RENAME _slipway
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions COMPONENT local)
endif()
add_custom_target(manual ALL DEPENDS ${manual_files})
