/* The program test/slipway-refuses: one that finds that it cannot take a service over. */
#include <stdio.h>
#include <string.h>

int slipway_main(int argc, char **argv);
#define main slipway_main
#include "main.c"
#undef main

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "serve") && !strcmp(argv[2], "--check-handover")) {
        fputs("it keeps its state in another way\n", stderr);
        return 1;
    }
    return slipway_main(argc, argv);
}
