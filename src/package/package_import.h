/* A package from an archive that somebody sends: an image as package_image.h describes it (an OCI image layout, or what
 * `docker save` writes, of ours or copied by other tools), or a model's folder as it is. tar, alone or in gzip or zstd,
 * and zip.
 *
 * Everything in it is outside input. Only plain files and folders become anything; links, devices, absolute names,
 * "..", names that stand twice or differ only in case, and what passes the limits are refused; every digest that an
 * image names is compared. Nothing is written outside the folder. Blocking. May use: base.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"

/* An archive may grow to this and this many times its own size: weights do not shrink to a hundredth, bombs do. */
#define PACKAGE_GROWTH_BYTES (1ull << 30)
#define PACKAGE_GROWTH_TIMES 100

struct package_import_limits {
    uint64_t size_maximum; /* bytes of the model */
    size_t file_maximum;
    const atomic_bool *canceled; /* may be NULL */
};

/* What the archive says of the model besides its bytes; all owned, each may be NULL. */
struct package_import {
    bool is_image;
    char tree_digest[DIGEST_HEX_SIZE]; /* of the package, if the image names it, else "": the caller compares */
    char *source_uri, *resolved_uri, *recipe_json, *facts_json;
};
void package_import_clear(struct package_import *import);
#define _cleanup_import_ __attribute__((cleanup(package_import_clear)))

/* Reads the archive in `descriptor` (a plain file, read by pread) into `folder`, which exists and is empty; what is
 * left there after an error is the caller's to remove. Errors: CONFIGURATION (what is wrong with it), UNAVAILABLE and
 * transient when the disk is full, UNAVAILABLE "canceled". */
int package_import_read(int descriptor, const char *folder, const struct package_import_limits *limits,
                        struct package_import *ret_import, struct error **ret_error);
