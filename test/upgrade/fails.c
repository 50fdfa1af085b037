/* The program test/slipway-fails: it finds that it can take a service over, and then the role that the variable
 * FAILING_ROLE names does not work: it ends at its start, or, with FAILING_HOW=hangs, does nothing. "serve" goes back
 * at once, as a program does that cannot read the state after all. */
#include <stdbool.h>
#include <stdio.h>
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

static int go_back(char **argv) {
    const char *given = getenv("SLIPWAY_TAKE_OVER");
    int state, previous;
    char told[32], program[32];
    if (!given || sscanf(given, "%d:%d", &state, &previous) != 2) return -1;
    snprintf(told, sizeof told, "%d:-1", state);
    snprintf(program, sizeof program, "/proc/self/fd/%d", previous);
    setenv("SLIPWAY_TAKE_OVER", told, 1);
    execv(program, argv);
    return 3;
}

int main(int argc, char **argv) {
    if (is_failing(argc, argv) && !strcmp(argv[1], "serve") && go_back(argv) < 0) return slipway_main(argc, argv);
    if (is_failing(argc, argv) && getenv("FAILING_HOW"))
        for (;;) pause();
    if (is_failing(argc, argv)) return 3;
    return slipway_main(argc, argv);
}
