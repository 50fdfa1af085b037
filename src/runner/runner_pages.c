#include "runner/runner_pages-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "base/memory.h"

void runner_ask_for_huge_pages(int argc, char **argv) {
    /* A program with more rights than its user would find the variable taken out again, and again. */
    if (getenv("GLIBC_TUNABLES") || getauxval(AT_SECURE)) return;
    if (setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1) < 0) return;
    char **again = mem_new_array((size_t)argc + 2, char *);
    again[0] = "slipway";
    memcpy(again + 1, argv, (size_t)argc * sizeof *argv);
    execv("/proc/self/exe", again);
    free(again);
}
