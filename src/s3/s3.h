/* S3: objects in buckets, by the REST API with Signature Version 4. For the s3 registry, for MLflow's artifacts in S3,
 * and for what batch jobs read and write. May use: base, transfer.
 *
 * https://docs.aws.amazon.com/AmazonS3/latest/API: ListObjectsV2, GetObject, HeadObject, PutObject, multipart upload,
 * ListObjectVersions. Queries are sorted and percent-encoded here, as libcurl signs them as they are. Blocking; worker
 * threads only; a struct s3 belongs to one thread.
 */
#pragma once
#include "transfer/transfer.h"

struct s3_config {
    const char *endpoint; /* "http://127.0.0.1:9000"; NULL: https://s3.<region>.amazonaws.com */
    const char *region; /* NULL: us-east-1 */
    /* http://endpoint/bucket/key instead of http://bucket.endpoint/key. Also done without asking where the endpoint is
     * an address, or the bucket's name is none for DNS or for the endpoint's certificate. */
    bool path_style;
    const char *access_key_id, *secret_access_key, *session_token; /* NULL, NULL: unsigned requests */
    struct transfer_config transfer; /* its hosts are set by s3_open() */
};
struct s3;
/* Copies the config with its strings. */
int s3_open(const struct s3_config *config, struct s3 **ret_s3, struct error **ret_error);
void s3_close(struct s3 *s3);
struct transfer *s3_transfer(struct s3 *s3); /* borrowed */
const char *s3_host(const struct s3 *s3); /* of the endpoint, with its port; borrowed */

struct s3_object {
    char *key, *etag, *version_id; /* etag with its quotes; version_id NULL where the bucket keeps none */
    uint64_t size_bytes;
    char *sha256; /* hex, where the object carries a checksum of the whole (x-amz-checksum-sha256); else NULL */
};
struct s3_objects {
    struct s3_object *list;
    size_t count;
};
void s3_objects_clear(struct s3_objects *objects);
/* Everything below the prefix, in the order of keys, over as many pages as it takes; more than `maximum` is
 * CONFIGURATION. An empty result is no error; a bucket that is not there is one. */
int s3_list(struct s3 *s3, const char *bucket, const char *prefix, size_t maximum, struct s3_objects *ret_objects,
            struct error **ret_error);
/* One object; 0 with key NULL when there is none. version_id may be NULL. */
int s3_head(struct s3 *s3, const char *bucket, const char *key, const char *version_id, struct s3_object *ret_object,
            struct error **ret_error);
void s3_object_clear(struct s3_object *object);
/* URL, credentials and validator of a GET, for transfer_download(); the URL is the caller's to free. */
int s3_describe_get(struct s3 *s3, const char *bucket, const struct s3_object *object, struct transfer_file *ret_file,
                    char **ret_url, struct error **ret_error);
/* bytes[offset, offset + size) of an object that must still have this etag (another one: transient error). */
int s3_read(struct s3 *s3, const char *bucket, const struct s3_object *object, uint64_t offset, char *bytes,
            size_t size, size_t *ret_size, struct error **ret_error);
/* Writes an object whole: one PUT, or a multipart upload above 64 MiB, which is aborted when it fails: an object is
 * there as a whole or not at all. */
int s3_write(struct s3 *s3, const char *bucket, const char *key,
             int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                         struct error **ret_error),
             void *context, uint64_t size_bytes, struct error **ret_error);
int s3_remove(struct s3 *s3, const char *bucket, const char *key, struct error **ret_error);
