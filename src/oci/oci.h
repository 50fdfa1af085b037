/* OCI registries: manifests and blobs over the distribution API (OCI Distribution Specification 1.1), for the oci
 * registry that models come from and for the container registry that packages are pushed to. May use: base, transfer.
 *
 * Authentication: Basic, or a token that is fetched where WWW-Authenticate says (Bearer realm, service, scope), with
 * the credentials of the config, which go to the registry and to that realm only. Every manifest and blob is checked
 * against its digest; a manifest's digest is that of the bytes that came or went, never of a rewritten form. Blocking;
 * worker threads only; a struct oci belongs to one thread.
 */
#pragma once
#include "transfer/transfer.h"

#define OCI_MANIFEST_MAXIMUM (4u << 20) /* bytes */

#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define OCI_TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define OCI_TYPE_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define OCI_TYPE_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar.gzip"

struct oci_reference {
    char *registry; /* "ghcr.io", "localhost:5000" */
    char *repository; /* "models/minilm" */
    char *tag; /* or NULL; "latest" when neither is given */
    char *digest; /* "sha256:…" or NULL */
};
/* "registry/repository[:tag][@sha256:…]". CONFIGURATION otherwise; docker.io's short names are not completed. */
int oci_reference_parse(const char *text, struct oci_reference *ret_reference, struct error **ret_error);
char *oci_reference_text(const struct oci_reference *reference); /* caller frees */
void oci_reference_clear(struct oci_reference *reference);
#define _cleanup_reference_ __attribute__((cleanup(oci_reference_clear)))

struct oci_config {
    const char *registry; /* host[:port] */
    bool plain_http; /* http instead of https */
    const char *username, *password; /* or NULL */
    const char *token; /* sent as it is, as a bearer token; or NULL */
    const char *identity_token; /* changed for bearer tokens at the realm (OAuth 2.0's refresh token); or NULL */
    struct transfer_config transfer; /* hosts: where blobs may be redirected to; the registry is added */
};
struct oci;
int oci_open(const struct oci_config *config, struct oci **ret_oci, struct error **ret_error);
void oci_close(struct oci *oci);
struct transfer *oci_transfer(struct oci *oci); /* borrowed */

struct oci_manifest {
    char *bytes; /* as they came */
    size_t size;
    char *media_type;
    char digest[72]; /* "sha256:…" */
};
void oci_manifest_clear(struct oci_manifest *manifest);
#define _cleanup_manifest_ __attribute__((cleanup(oci_manifest_clear)))
/* By digest when the reference has one, else by tag. An index (several platforms) is returned as it is. */
int oci_get_manifest(struct oci *oci, const struct oci_reference *reference, struct oci_manifest *ret_manifest,
                     struct error **ret_error);
/* A small blob (a config) whole; verified. Caller frees. */
int oci_get_blob(struct oci *oci, const char *repository, const char *digest, size_t maximum, char **ret_bytes,
                 size_t *ret_size, struct error **ret_error);
/* What transfer_download() needs for a blob, verified by its digest. URL: the caller's to free; strings in ret_file
 * live as long as `oci`. */
int oci_describe_blob(struct oci *oci, const char *repository, const char *digest, uint64_t size_bytes,
                      struct transfer_file *ret_file, char **ret_url, struct error **ret_error);

/* Whether the error of a download may come from a token that has expired since the blob was described: then describing
 * it again helps. */
bool oci_token_has_expired(const struct oci *oci, const char *repository);

/* 1: it is there; 0: it is not. */
int oci_has_blob(struct oci *oci, const char *repository, const char *digest, struct error **ret_error);
/* 1: mounted from the other repository of this registry without a copy; 0: the registry would not. */
int oci_mount_blob(struct oci *oci, const char *repository, const char *from_repository, const char *digest,
                   struct error **ret_error);
/* Uploads in chunks; after a break it asks the registry where it stands and goes on there. */
int oci_push_blob(struct oci *oci, const char *repository, const char *digest, uint64_t size_bytes,
                  int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                              struct error **ret_error),
                  void *context, struct error **ret_error);
/* Puts it under the tag (NULL: its digest only). ret_digest: what the registry says (Docker-Content-Digest), which must
 * be that of the bytes. Has it a `subject` and the registry no referrers API, the fallback tag sha256-<digest> is kept
 * up. */
int oci_push_manifest(struct oci *oci, const char *repository, const char *tag, const char *bytes, size_t size,
                      const char *media_type, char ret_digest[72], struct error **ret_error);
/* What refers to the manifest of this digest: an index of it, from the referrers API or from the fallback tag; an empty
 * one when there is neither. */
int oci_get_referrers(struct oci *oci, const char *repository, const char *digest, struct oci_manifest *ret_index,
                      struct error **ret_error);
