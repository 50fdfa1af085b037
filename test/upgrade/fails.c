/* The program test/slipway-fails: it finds that it can take a service over, and then the role that the variable
 * FAILING_ROLE names does not work: it ends at its start, or, with FAILING_HOW=hangs, does nothing. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/version.h"

int slipway_main(int argc, char **argv);
#define main slipway_main
#include "main.c"
#undef main

const char *build_version(void) {
    return "0.9.0-fails";
}

static bool is_failing(int argc, char **argv) {
    const char *role = getenv("FAILING_ROLE");
    return role && argc > 1 && !strcmp(argv[1], role);
}

int main(int argc, char **argv) {
    if (is_failing(argc, argv) && getenv("FAILING_HOW"))
        for (;;) pause();
    if (is_failing(argc, argv)) return 3;
    return slipway_main(argc, argv);
}
