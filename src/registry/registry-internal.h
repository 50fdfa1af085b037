/* The file registry's own files: registry_file_uri.c (what a URI names), registry_file_root.c (reaching files without
 * leaving a root), registry_file.c (check and resolve), registry_file_copy.c (fetch). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "registry/registry.h"

#define REGISTRY_FILES_MAXIMUM 100000 /* entries of one model's tree, whatever the context allows */
#define REGISTRY_PATH_MAXIMUM 1024 /* bytes of a path relative to the model */
#define REGISTRY_DEPTH_MAXIMUM 32 /* folders inside each other */

/* The absolute, lexically clean path ("//", "." and ".." resolved, no '/' at the end) that a file URI or a bare path
 * names. CONFIGURATION error otherwise. Caller frees *ret_path. */
int registry_file_parse(const char *uri, char **ret_path, struct error **ret_error);
/* What is behind the root in a clean path: "" for the root itself, NULL when the path is not inside it. */
const char *registry_path_inside(const char *root, const char *path);
/* UTF-8 without control characters, so that it can be shown and recorded. */
bool registry_path_is_plain(const char *path);

/* The root that a real path lies in, and *ret_relative what is behind it; NULL when there is none. */
const char *registry_find_root(const struct registry_context *context, const char *path, const char **ret_relative);
/* CONFIGURATION error "outside", naming the roots. */
int registry_refuse_outside(const struct registry_context *context, const char *what, struct error **ret_error);
/* Opens relative ("": the root itself) below root, following no link on the way: what is opened is inside the root,
 * whatever happens to names meanwhile. Returns a descriptor, or -1 with errno (ELOOP or ENOTDIR: a link on the way). */
int registry_open_beneath(const char *root, const char *relative, int flags);
/* The same for a real path inside some root. -1 with errno EXDEV when it is in none. */
int registry_open_inside(const struct registry_context *context, const char *real_path, int flags);
/* Hard links lead out of a root as well as symbolic ones do: CONFIGURATION error unless every name of the file `path`
 * lies inside the roots. Looks at a million entries at most. */
int registry_check_names(const struct registry_context *context, const char *path, const struct stat *status,
                         struct error **ret_error);

/* The error for a failed look at, or opening of, the source. */
int registry_fail_source(struct error **ret_error, int errno_value, const char *path);
int registry_check_canceled(const struct registry_context *context, struct error **ret_error);

/* Of files that are in their final order. */
void registry_set_fingerprint(struct registry_resolution *resolution);

int registry_file_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                        const char *folder, struct error **ret_error);
/* A new file below the folder, with the folders that its path needs, following no link. Returns -1 with errno. */
int registry_make_file(int folder, const char *path);

/* ---- what every registry does with what it found (registry_resolution.c) ---- */

struct transfer;
struct transfer_config;
struct transfer_file;

/* Adds a file. All of it came from outside: CONFIGURATION unless the path is plain, relative, without "." and "..", not
 * too long or deep, and the ceilings of files and bytes (REGISTRY_SIZE_UNKNOWN counts as none) are kept. Copies. */
int registry_resolution_add(const struct registry_context *context, struct registry_resolution *resolution,
                            const char *path, uint64_t size_bytes, const char *sha256, const char *identity,
                            const char *source, struct error **ret_error);
/* When all are there: sorts, refuses a name that stands twice, names that differ in case only, and a file that is also
 * a folder; sets the fingerprint. MODEL_REGISTRY when there is no file. `what` names the model in errors. */
int registry_resolution_finish(struct registry_resolution *resolution, const char *what, struct error **ret_error);
/* What the context asks of transfers; hosts and ca_file are the caller's to set. */
void registry_transfer_config(const struct registry_context *context, struct transfer_config *ret_config);
/* Fetches all files: `describe` fills in URL, headers, credentials and validator of each (path, size and digest are set
 * already); what it allocates for that lives in `state`, the caller's. Sizes and digests are verified. */
int registry_download(const struct registry_context *context, struct transfer *transfer,
                      const struct registry_resolution *resolution, const char *folder,
                      int (*describe)(void *state, const struct registry_file *file, struct transfer_file *ret_file,
                                      struct error **ret_error),
                      void *state, struct error **ret_error);

/* ---- archives (registry_archive.c) ---- */

/* tar, tar.gz, tar.zst and zip: by name ("model.tar.gz"), or by their first bytes, of which 262 tell. */
bool registry_is_archive(const char *name);
bool registry_bytes_are_archive(const char *bytes, size_t size);
/* Unpacks the file `archive` of `folder` into `folder` and removes it. Plain files and folders only: links, devices,
 * absolute names, "..", names that clash, and more files or bytes than the context allows are CONFIGURATION errors, a
 * broken archive MODEL_REGISTRY. When all lies in one folder, that folder is the model. */
int registry_unpack(const struct registry_context *context, const char *folder, const char *archive,
                    struct error **ret_error);
