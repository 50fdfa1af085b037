#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "s3/s3-internal.h"

#define BUCKET_MAXIMUM 255

/* ---- the endpoint ---- */

static bool is_made_of(const char *text, size_t size, const char *more) {
    for (size_t i = 0; i < size; i++) {
        bool is_plain = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9');
        if (!is_plain && !(text[i] && strchr(more, text[i]))) return false;
    }
    return size > 0;
}

/* Takes "http://host:9000/prefix" apart. */
static int split_endpoint(struct s3 *s3, const char *endpoint, struct error **ret_error) {
    size_t scheme = !strncasecmp(endpoint, "https://", 8) ? 5 : !strncasecmp(endpoint, "http://", 7) ? 4 : 0;
    const char *host = scheme ? endpoint + scheme + 3 : endpoint;
    size_t size = strcspn(host, "/?#");
    if (!scheme || !size || memchr(host, '@', size) || strpbrk(host, "?#"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the S3 endpoint is not of the form http://host:port or https://host");
    const char *end = host + strlen(host);
    while (end > host + size && end[-1] == '/') end--;
    s3->scheme = text_copy(scheme == 5 ? "https" : "http");
    s3->host = text_copy_bytes(host, size);
    s3->prefix = text_copy_bytes(host + size, (size_t)(end - host) - size);
    return 0;
}

/* https://docs.aws.amazon.com/general/latest/gr/s3.html; the Chinese regions are a partition of their own. */
static char *endpoint_of_region(const char *region) {
    return text_format("https://s3.%s.amazonaws.com%s", region, text_starts_with(region, "cn-") ? ".cn" : "");
}

/* Addresses have no names below them: a bucket can only stand in the path. */
static bool host_is_address(const char *host) {
    size_t name = strcspn(host, ":");
    return *host == '[' || strspn(host, "0123456789.") == name || (name == 9 && !strncasecmp(host, "localhost", 9));
}

/* ---- life ---- */

static void set_credentials(struct s3 *s3, const struct s3_config *config) {
    if (!config->access_key_id) return;
    s3->access_key_id = text_copy(config->access_key_id);
    s3->secret_access_key = text_copy(config->secret_access_key);
    s3->session_token = text_copy(config->session_token);
    s3->credentials = (struct transfer_credentials){
        .kind = TRANSFER_AWS,
        .user = s3->access_key_id,
        .secret = s3->secret_access_key,
        .session_token = s3->session_token,
        .region = s3->region,
        .service = "s3",
    };
}

static int open_transfer(struct s3 *s3, const struct s3_config *config, struct error **ret_error) {
    s3->ca_file = text_copy(config->transfer.ca_file);
    s3->host_patterns[0] = text_copy(s3->host);
    s3->host_patterns[1] = text_format("*.%s", s3->host);
    s3->transfer_config = config->transfer;
    s3->transfer_config.ca_file = s3->ca_file;
    s3->transfer_config.hosts = (const char *const *)s3->host_patterns;
    s3->transfer_config.host_count = host_is_address(s3->host) ? 1 : 2;
    return transfer_open(&s3->transfer_config, &s3->transfer, ret_error);
}

int s3_open(const struct s3_config *config, struct s3 **ret_s3, struct error **ret_error) {
    if (!config->access_key_id != !config->secret_access_key)
        return error_set(ret_error, ERROR_CONFIGURATION, "S3 needs an access key id and its secret, or neither");
    const char *region = config->region ? config->region : "us-east-1";
    if (!is_made_of(region, strlen(region), "-"))
        return error_set(ret_error, ERROR_CONFIGURATION, "the S3 region is not a name like us-east-1");
    struct s3 *s3 = mem_new(struct s3);
    s3->region = text_copy(region);
    s3->path_style = config->path_style;
    _cleanup_free_ char *usual = endpoint_of_region(region);
    set_credentials(s3, config);
    int result = split_endpoint(s3, config->endpoint ? config->endpoint : usual, ret_error);
    if (result >= 0) result = open_transfer(s3, config, ret_error);
    if (result < 0) {
        s3_close(s3);
        return result;
    }
    *ret_s3 = s3;
    return 0;
}

static void free_secret(char *secret) {
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

void s3_close(struct s3 *s3) {
    if (!s3) return;
    transfer_close(s3->transfer);
    free_secret(s3->secret_access_key);
    free_secret(s3->session_token);
    free(s3->scheme);
    free(s3->host);
    free(s3->prefix);
    free(s3->region);
    free(s3->access_key_id);
    free(s3->ca_file);
    free(s3->host_patterns[0]);
    free(s3->host_patterns[1]);
    free(s3);
}

struct transfer *s3_transfer(struct s3 *s3) {
    return s3->transfer;
}

const char *s3_host(const struct s3 *s3) {
    return s3->host;
}

/* ---- URLs ---- */

/* Amazon's rules for new buckets, which DNS needs. */
static bool bucket_is_dns_name(const char *bucket) {
    size_t size = strlen(bucket);
    return size >= 3 && size <= 63 && is_made_of(bucket, size, "-.") && is_made_of(bucket, 1, "") &&
           is_made_of(bucket + size - 1, 1, "") && !strstr(bucket, "..") && !strstr(bucket, ".-") &&
           !strstr(bucket, "-.");
}

bool s3_bucket_is_good(const char *bucket) {
    size_t size = strlen(bucket);
    return size && size <= BUCKET_MAXIMUM && *bucket != '.' &&
           is_made_of(bucket, size, "-._ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* A certificate for *.host is not one for a.b.host. */
static bool bucket_stands_in_path(const struct s3 *s3, const char *bucket) {
    return s3->path_style || host_is_address(s3->host) || !bucket_is_dns_name(bucket) ||
           (strchr(bucket, '.') && !strcmp(s3->scheme, "https"));
}

static bool key_has_dots(const char *key) {
    for (const char *segment = key; segment;) {
        size_t size = strcspn(segment, "/");
        if ((size == 1 && *segment == '.') || (size == 2 && !strncmp(segment, "..", 2))) return true;
        segment = segment[size] ? segment + size + 1 : NULL;
    }
    return false;
}

static int check_key(const char *bucket, const char *key, struct error **ret_error) {
    if (!*key || strlen(key) > S3_KEY_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "a key in the bucket %s is %s", bucket,
                         *key ? "longer than 1024 bytes" : "empty");
    if (!text_is_utf8(key, strlen(key)))
        return error_set(ret_error, ERROR_CONFIGURATION, "a key in the bucket %s is not UTF-8", bucket);
    if (key_has_dots(key))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "s3://%s/%s has \".\" or \"..\" between slashes, which no URL can say", bucket, key);
    return 0;
}

static void append_path(struct buffer *url, const char *key) {
    for (const char *segment = key;; segment++) {
        size_t size = strcspn(segment, "/");
        _cleanup_free_ char *encoded = text_percent_encode(segment, size);
        buffer_append_format(url, "/%s", encoded);
        segment += size;
        if (!*segment) return;
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct s3_parameter *)a)->name, ((const struct s3_parameter *)b)->name);
}

static void append_query(struct buffer *url, const struct s3_parameter *parameters, size_t count) {
    _cleanup_free_ struct s3_parameter *sorted = mem_new_array(count + 1, struct s3_parameter);
    if (count) memcpy(sorted, parameters, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_name);
    char mark = '?';
    for (size_t i = 0; i < count; i++) {
        if (!sorted[i].value) continue;
        _cleanup_free_ char *value = text_percent_encode(sorted[i].value, strlen(sorted[i].value));
        buffer_append_format(url, "%c%s=%s", mark, sorted[i].name, value);
        mark = '&';
    }
}

int s3_url(const struct s3 *s3, const char *bucket, const char *key, const struct s3_parameter *parameters,
           size_t count, char **ret_url, struct error **ret_error) {
    if (!s3_bucket_is_good(bucket))
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.64s\" is no name of an S3 bucket", bucket);
    int result = key ? check_key(bucket, key, ret_error) : 0;
    if (result < 0) return result;
    _cleanup_buffer_ struct buffer url = {0};
    if (bucket_stands_in_path(s3, bucket))
        buffer_append_format(&url, "%s://%s%s/%s", s3->scheme, s3->host, s3->prefix, bucket);
    else
        buffer_append_format(&url, "%s://%s.%s%s", s3->scheme, bucket, s3->host, s3->prefix);
    append_path(&url, key ? key : "");
    append_query(&url, parameters, count);
    *ret_url = buffer_take(&url, NULL);
    return 0;
}

char *s3_name(const char *bucket, const char *key) {
    return text_format("s3://%s/%s", bucket, key);
}

/* ---- requests and answers ---- */

int s3_fail_answer(struct s3 *s3, const struct transfer_answer *answer, struct error **ret_error) {
    int result = transfer_fail_answer(s3->transfer, answer, ret_error);
    _cleanup_free_ char *region = transfer_answer_header(answer, "x-amz-bucket-region");
    if (region && strcmp(region, s3->region) && is_made_of(region, strlen(region), "-"))
        return error_wrap(ret_error, "the bucket is in the region %s and was asked for in %s", region, s3->region);
    return result;
}

int s3_perform(struct s3 *s3, struct transfer_request *request, const int *wanted, size_t wanted_count,
               struct transfer_answer *ret_answer, struct error **ret_error) {
    struct transfer_answer answer = {0};
    request->credentials = s3->credentials;
    request->keep_redirect = true; /* only leads to another region, for which it would have to be signed anew */
    int result = transfer_perform(s3->transfer, request, &answer, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < wanted_count; i++) {
        if (answer.status != wanted[i]) continue;
        *ret_answer = answer;
        return 0;
    }
    result = s3_fail_answer(s3, &answer, ret_error);
    transfer_answer_clear(&answer);
    return result;
}

int s3_read_answer(const struct s3 *s3, const struct transfer_answer *answer, s3_xml_on_element *on_element,
                   void *context, struct error **ret_error) {
    struct error *error = NULL;
    int result = s3_xml_read(answer->body, answer->body_size, on_element, context, &error);
    if (result >= 0) return 0;
    if (error->class == ERROR_MODEL_REGISTRY) error->class = s3->transfer_config.class;
    result = -(int)error->class;
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

char *s3_quote_etag(const char *etag) {
    if (!etag || !*etag) return NULL;
    return strchr(etag, '"') ? text_copy(etag) : text_format("\"%s\"", etag);
}
