/* OCI registries' own files: oci_reference.c (references), oci_challenge.c (WWW-Authenticate), oci_token.c (tokens),
 * oci.c (requests that authenticate themselves), oci_manifest.c and oci_referrers.c (manifests), oci_blob.c (blobs that
 * are there), oci_upload.c (blobs that are pushed). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/oci.h"

#define OCI_SHA256 "sha256:"
#define OCI_DIGEST_SIZE 72 /* "sha256:", 64 digits and NUL */

bool oci_is_registry(const char *text);
bool oci_is_repository(const char *text);
bool oci_is_tag(const char *text);
bool oci_is_digest(const char *text);
/* "sha256:…" of the bytes. */
void oci_digest_bytes(const void *bytes, size_t size, char ret_digest[OCI_DIGEST_SIZE]);

/* ---- WWW-Authenticate (RFC 9110 §11.6.1): what a registry asks for ---- */

enum oci_scheme { OCI_SCHEME_NONE, OCI_SCHEME_BASIC, OCI_SCHEME_BEARER };
struct oci_challenge {
    enum oci_scheme scheme;
    char *realm, *service, *scope; /* Bearer's; NULL where they are missing */
};
/* The best challenge among those of one header's value: Bearer with a realm before Basic; OCI_SCHEME_NONE when there is
 * none that is understood. Never fails: what is broken is none. */
void oci_challenge_parse(const char *value, struct oci_challenge *ret_challenge);
void oci_challenge_clear(struct oci_challenge *challenge);
#define _cleanup_challenge_ __attribute__((cleanup(oci_challenge_clear)))

/* ---- requests ---- */

struct oci_token {
    char *scope, *token; /* token NULL: this scope needs none */
    uint64_t expires_ms; /* clock_monotonic_ms() */
};
struct oci {
    char *registry, *origin; /* "http://localhost:5000" */
    char *username, *password, *token, *identity_token;
    char **hosts; /* the registry, then where it may redirect to */
    size_t host_count;
    struct transfer_config config;
    struct transfer *transfer;
    bool basic; /* the registry asked for Basic */
    struct oci_token *tokens;
    size_t token_count;
};

/* Performs the request with what the scope ("repository:name:pull", several joined by a space) needs; asked for a token
 * or for Basic, it is sent again with that. *ret_answer: any status below 500. */
int oci_request(struct oci *oci, struct transfer_request *request, const char *scope,
                struct transfer_answer *ret_answer, struct error **ret_error);
/* What is known for the scope by now; strings live until the next request. */
void oci_credentials(const struct oci *oci, const char *scope, struct transfer_credentials *ret_credentials);
/* Whether a request for this scope was answered already, and its token will live for a while. */
bool oci_is_ready(const struct oci *oci, const char *scope);
/* Fetches a token for the scope from where the challenge says, and keeps it. */
int oci_fetch_token(struct oci *oci, const struct oci_challenge *challenge, const char *scope,
                    struct error **ret_error);
void oci_keep_token(struct oci *oci, const char *scope, const char *token, uint64_t seconds);
/* An error of the config's class. */
int oci_fail(const struct oci *oci, struct error **ret_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Of an answer that is not what was hoped for; takes an answer of 401 or 403 for what it most likely means. */
int oci_fail_answer(struct oci *oci, const struct transfer_answer *answer, struct error **ret_error);

char *oci_scope_pull(const char *repository);
char *oci_scope_push(const char *repository);
char *oci_url(const struct oci *oci, const char *repository, const char *kind, const char *name);
/* Whether the URL has this registry's scheme, host and port. */
bool oci_is_own_url(const struct oci *oci, const char *url);

/* The manifest, when there is one of that name (a tag or digest): 1; 0 for 404. Verified. */
int oci_find_manifest(struct oci *oci, const char *repository, const char *name, struct oci_manifest *ret_manifest,
                      struct error **ret_error);
/* Puts the bytes; the registry's digest is checked. *ret_has_subject: it has taken note of the subject itself. */
int oci_put_manifest(struct oci *oci, const char *repository, const char *name, const char *bytes, size_t size,
                     const char *media_type, char ret_digest[OCI_DIGEST_SIZE], bool *ret_has_subject,
                     struct error **ret_error);
/* Makes a manifest with a subject found by that: by the fallback tag where the registry has no referrers API. */
int oci_note_referrer(struct oci *oci, const char *repository, const char *subject, const char *manifest,
                      size_t manifest_size, const char *media_type, const char *digest, struct error **ret_error);
/* Lets an upload go that the answer speaks of. */
void oci_end_upload(struct oci *oci, const char *repository, const struct transfer_answer *answer);
