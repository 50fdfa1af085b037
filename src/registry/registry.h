/* Registries: where models come from. One struct of functions a back-end; registry_find() picks it by the URI's scheme.
 *
 * resolve() turns a URI into something exact and immutable (which files, sizes, digests where the source knows them)
 * without moving bytes; fetch() writes those files into an empty folder. Both block and run on a task's worker thread;
 * both look at *canceled now and then and give UNAVAILABLE "canceled" when it is set. Errors: CONFIGURATION (the URI is
 * malformed, or outside what is allowed: final), MODEL_REGISTRY (it lacks the thing: final; it cannot be reached:
 * transient). The disk that is written to being full is UNAVAILABLE and transient. Any number of calls may run at once.
 * No error, and nothing in a resolution, holds a credential. May use: base, transfer, s3, oci. Back-ends: file, http,
 * MLflow, S3, OCI; test/contract/registry.c is the suite that all pass.
 *
 * The file registry: file:///path (RFC 8089, percent-encoded) or an absolute path as it is; a folder, or one .onnx
 * file, which is fetched under the name model.onnx. Only what lies inside a root is read, and a name leads no further
 * than what it names: whether by "..", by links or by hard links.
 *   - A symbolic link is followed when its target is a plain file inside a root, and fetched under the link's name; a
 * link to a folder is refused.
 *   - A file with several names (hard links) is taken when all of them lie inside the roots; otherwise it is refused,
 * since whoever can write to the model's folder could give a name in it to a file from elsewhere.
 *   - Devices, pipes and sockets are refused. ".git" and ".cache" are left out.
 *   - A file's identity is its device, inode, size and times of change. One that changed within the last three seconds
 * has none: it could change again without its time telling.
 *   - What was resolved is what is fetched: a file that is gone or changed between is MODEL_REGISTRY, transient.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct registry_file {
    char *path; /* relative, '/'-separated, no "..", not empty */
    uint64_t size_bytes; /* REGISTRY_SIZE_UNKNOWN: the source does not say (http without a length) */
    char *sha256; /* hex, or NULL when the source does not know it */
    char *identity; /* what would be another if its bytes were: the back-end's own; NULL when nothing tells */
    char *source; /* where to get it: the back-end's own (a URL, a key), or NULL */
};
#define REGISTRY_SIZE_UNKNOWN UINT64_MAX

struct registry_resolution {
    /* Exact and immutable ("models:/demo/3" for models:/demo@champion), for deployed_model_version; NULL where the
     * source has no such thing (a file, an S3 prefix without versions): the package's own URI is then the version. */
    char *resolved_uri;
    char *location; /* the back-end's own (file: the real path of the folder or file) */
    struct registry_file *files;
    size_t file_count;
    uint64_t size_bytes; /* of the files whose size is known */
    /* What the source itself says of the model (MLmodel's signature), a JSON object, or NULL. */
    char *facts_json;
    /* Hex; what has the same fingerprint later has the same bytes, so that it need not be fetched again. NULL when a
     * file has no identity. */
    char *fingerprint;
};
void registry_resolution_clear(struct registry_resolution *resolution);

struct registry_servers; /* registry_servers.h */

struct registry_context {
    const char *const *roots; /* file: real paths of the folders that may be read */
    size_t root_count;
    uint64_t size_maximum; /* bytes of one model; 0: none */
    size_t file_maximum; /* files of one model; 0: none but the back-end's own (file: 100000) */
    const struct registry_servers *servers; /* the configured ones; NULL: none */
    uint64_t connect_timeout_ms, stall_timeout_ms; /* of connections to servers; 0: 10 s, 30 s */
    uint64_t deadline_ms; /* clock_monotonic_ms(); 0: none */
    unsigned attempts, parallel; /* transfer.h; 0: 5, 4 */
    atomic_bool *canceled; /* may be NULL */
    void (*on_progress)(uint64_t done_bytes, uint64_t total_bytes, void *context); /* may be NULL */
    void *progress_context;
};

struct registry_ops {
    const char *name;
    const char *const *schemes; /* ended by NULL; "" stands for a bare path */
    bool is_local; /* resolve() asks no network: it is then called for a request, too */
    /* Cheap and local: is this URI well-formed, its server configured, and allowed? Called when a request comes in.
     * CONFIGURATION otherwise. */
    int (*check)(const struct registry_context *context, const char *uri, struct error **ret_error);
    int (*resolve)(const struct registry_context *context, const char *uri, struct registry_resolution *ret_resolution,
                   struct error **ret_error);
    /* `folder` exists and is empty. What is left there after an error is the caller's to remove. Files are not synced.
     * An archive is unpacked: the files are then those in it. */
    int (*fetch)(const struct registry_context *context, const struct registry_resolution *resolution,
                 const char *folder, struct error **ret_error);
};

/* The back-end for this URI; CONFIGURATION error that lists the schemes this build has. */
int registry_find(const char *uri, const struct registry_ops **ret_registry, struct error **ret_error);
extern const struct registry_ops file_registry, http_registry, mlflow_registry, s3_registry, oci_registry;
