#include "base/version.h"

#include "slipway_version.h"

const char *build_version(void) {
    return SLIPWAY_VERSION;
}
