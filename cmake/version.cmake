# Run at each build: writes slipway_version.h when what it says has changed.
execute_process(
  COMMAND git describe --always --dirty --tags --abbrev=12
  WORKING_DIRECTORY ${source} OUTPUT_VARIABLE commit RESULT_VARIABLE failed ERROR_QUIET
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(failed)
  set(commit unknown) # built from an archive
endif()
file(CONFIGURE OUTPUT ${output} @ONLY CONTENT [[
#ifndef SLIPWAY_VERSION_H
#define SLIPWAY_VERSION_H

#define SLIPWAY_VERSION "@version@"
#define SLIPWAY_COMMIT "@commit@"

#endif
]])
