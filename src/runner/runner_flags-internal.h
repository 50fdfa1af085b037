/* The flags of `slipway runner`; runner_flags.def is the one table. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define FLAG_TYPE_TEXT const char * /* points into argv or the table */
#define FLAG_TYPE_NUMBER uint64_t
#define FLAG_TYPE_SIZE uint64_t
#define FLAG_TYPE_SWITCH bool

struct runner_flags {
#define FLAG(kind, field, flag, initial, minimum, maximum, value, help) FLAG_TYPE_##kind field;
#include "runner/runner_flags.def"
#undef FLAG
    bool help; /* --help was given: nothing else counts */
};

/* argv[1..argc) as `--flag value` or `--flag=value`. CONFIGURATION error that names the flag. */
int runner_flags_parse(int argc, char **argv, struct runner_flags *ret_flags, struct error **ret_error);
/* The text of --help; caller frees. */
char *runner_flags_help(void);
