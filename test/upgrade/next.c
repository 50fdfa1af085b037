/* The program test/slipway-next: the same as slipway, but for its version. An upgrade to it is an upgrade. */
#include "base/version.h"

const char *build_version(void) {
    return "0.9.0-next";
}
