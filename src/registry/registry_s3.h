/* S3 as a place for models: registry_s3.c (check, resolve, fetch), registry_s3_open.c (URIs, and the server of a
 * bucket), registry_s3_credentials.c. The two at the top are also for others that read and write by s3: URIs (MLflow's
 * artifacts, batch jobs).
 *
 * s3://BUCKET/KEY: the key stands as it is, not percent-encoded, as the usual clients take it. Behind the key of one
 * object, ?versionId=ID names one of its versions. Which server has the bucket, and what it is asked with, say the
 * configured servers (registry_servers.h).
 */
#pragma once
#include "registry/registry.h"
#include "s3/s3.h"

/* What to do where there is no server. */
#define REGISTRY_S3_HOW                                                                                                \
    "give the registries file a section [s3] (endpoint, region, access_key_id, secret_access_key_file), or start the " \
    "service with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"

struct registry_s3_uri {
    char *bucket;
    char *key; /* "" for the whole bucket; may end with '/' */
    char *version_id; /* or NULL */
};
/* CONFIGURATION when it is malformed. */
int registry_s3_parse(const char *uri, struct registry_s3_uri *ret_uri, struct error **ret_error);
void registry_s3_uri_clear(struct registry_s3_uri *uri);
#define _cleanup_s3_uri_ __attribute__((cleanup(registry_s3_uri_clear)))

/* Opens the server that has this bucket, with the credentials that are good now. Errors of transfers have the class of
 * the context's (MODEL_REGISTRY). CONFIGURATION when no server has the bucket; MODEL_REGISTRY when the credentials
 * cannot be read. Close with s3_close(). */
int registry_s3_open(const struct registry_context *context, const char *bucket, struct s3 **ret_s3,
                     struct error **ret_error);

/* ---- registry_s3_credentials.c ---- */

struct registry_server;
struct registry_s3_credentials {
    char *access_key_id, *secret_access_key, *session_token; /* all NULL: ask without */
    char *region; /* that the profile names, or NULL */
};
void registry_s3_credentials_clear(struct registry_s3_credentials *credentials);
#define _cleanup_s3_credentials_ __attribute__((cleanup(registry_s3_credentials_clear)))
/* In this order: the section's own keys; the section's profile; and for the default section only, what the usual
 * clients go by: AWS_ACCESS_KEY_ID and its like, then the profile AWS_PROFILE (or "default", if it is there) of the
 * shared credentials file. Another section without keys and profile is asked unsigned: the environment's keys are not
 * for it. CONFIGURATION for half a pair and a profile that is not there, MODEL_REGISTRY for a file that cannot be read.
 */
int registry_s3_read_credentials(const struct registry_servers *servers, const struct registry_server *server,
                                 struct registry_s3_credentials *ret_credentials, struct error **ret_error);
