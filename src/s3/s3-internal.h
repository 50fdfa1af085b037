/* What the files of s3 share: s3.c (opening, URLs, one request), s3_list.c, s3_object.c (looking at, reading and
 * removing one object), s3_write.c, s3_xml.c (answers). */
#pragma once
#include "s3/s3.h"
#include "s3/s3_xml.h"

#define S3_KEY_MAXIMUM 1024 /* bytes of a key */

struct s3 {
    struct transfer *transfer;
    struct transfer_config transfer_config; /* its strings are ours */
    struct transfer_credentials credentials; /* borrows from below */
    char *scheme, *host; /* of the endpoint; the host with its port */
    char *prefix; /* path of the endpoint without '/' at the end; mostly "" */
    char *region, *access_key_id, *secret_access_key, *session_token, *ca_file;
    char *host_patterns[2]; /* the host, and every bucket below it */
    bool path_style;
};

struct s3_parameter {
    const char *name, *value; /* value NULL: left out; "" stands as "name=" */
};

/* Whether the names are ones that buckets have (Amazon's rules, and the wider ones that they had before 2018). */
bool s3_bucket_is_good(const char *bucket);
/* The URL of a bucket (key NULL) or an object. Parameters become a query, sorted by name and percent-encoded as
 * Signature Version 4 wants it. CONFIGURATION for a bucket or key that has no URL: empty or too long ones, keys with
 * the segments "." and "..", which clients and servers take out of URLs. Caller frees. */
int s3_url(const struct s3 *s3, const char *bucket, const char *key, const struct s3_parameter *parameters,
           size_t count, char **ret_url, struct error **ret_error);
/* "s3://bucket/key", for errors; caller frees. */
char *s3_name(const char *bucket, const char *key);

/* Sends it with the credentials. An answer of another status than wanted[0..wanted_count) is an error with the server's
 * words. */
int s3_perform(struct s3 *s3, struct transfer_request *request, const int *wanted, size_t wanted_count,
               struct transfer_answer *ret_answer, struct error **ret_error);
/* An error in the server's words; it tells where a bucket is that is elsewhere. */
int s3_fail_answer(struct s3 *s3, const struct transfer_answer *answer, struct error **ret_error);
/* Reads the XML of an answer; what is wrong with it is an error of the config's class. */
int s3_read_answer(const struct s3 *s3, const struct transfer_answer *answer, s3_xml_on_element *on_element,
                   void *context, struct error **ret_error);
/* The ETag with its quotes, as headers have it; some listings come without. NULL for none. Caller frees. */
char *s3_quote_etag(const char *etag);
