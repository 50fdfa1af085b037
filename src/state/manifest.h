/* A backup's manifest: written last, read first, and believed only after it was checked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"

#define MANIFEST_FORMAT 1
#define MANIFEST_SIZE_MAXIMUM (256u << 20)
#define MANIFEST_FILES_MAXIMUM 1000000
#define MANIFEST_PATH_MAXIMUM 1280 /* a package's longest path, and the folders above it */

struct manifest_file {
    char *path; /* relative to the backup: control.db, collections/<id>/documents.db, packages/sha256/<digest>/… */
    uint64_t size_bytes;
    char sha256[DIGEST_HEX_SIZE];
};
struct manifest_package {
    char digest[DIGEST_HEX_SIZE];
    uint64_t size_bytes, file_count;
};
struct manifest_collection {
    char id[37];
    char *name;
    uint64_t head, live, query_head;
    bool keep_queries;
};

struct manifest {
    char *slipway, *created_at; /* the version that wrote it; RFC 3339 */
    int64_t control_version, collection_version; /* of the schemas */
    bool with_packages;
    struct manifest_file *files;
    size_t file_count;
    struct manifest_package *packages; /* those that the state refers to, also without their files */
    size_t package_count;
    struct manifest_collection *collections;
    size_t collection_count;
};
void manifest_clear(struct manifest *manifest);
#define _cleanup_manifest_ __attribute__((cleanup(manifest_clear)))

/* Take copies. */
void manifest_add_file(struct manifest *manifest, const char *path, uint64_t size_bytes, const char *sha256);
void manifest_add_package(struct manifest *manifest, const char *digest, uint64_t size_bytes, uint64_t file_count);
struct manifest_collection *manifest_add_collection(struct manifest *manifest, const char *id, const char *name);
/* Takes out the files whose path begins so. */
void manifest_drop_files(struct manifest *manifest, const char *prefix);

char *manifest_write(const struct manifest *manifest, size_t *ret_size); /* JSON; caller frees */
/* CONFIGURATION: it is none, is from a newer Slipway (says so), or says what cannot be: a path that leads out of the
 * backup, one that is there twice, a package without its files, a collection without its database. */
int manifest_parse(const char *bytes, size_t size, struct manifest *ret_manifest, struct error **ret_error);
