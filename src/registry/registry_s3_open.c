/* s3: URIs, and the server that has a bucket. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "registry/registry_s3.h"
#include "registry/registry_servers.h"

#define URI_MAXIMUM 4096
#define BUCKET_MAXIMUM 255

/* ---- URIs ---- */

void registry_s3_uri_clear(struct registry_s3_uri *uri) {
    free(uri->bucket);
    free(uri->key);
    free(uri->version_id);
    *uri = (struct registry_s3_uri){0};
}

static bool bucket_is_good(const char *bucket, size_t size) {
    if (!size || size > BUCKET_MAXIMUM || *bucket == '.' || *bucket == '-') return false;
    for (size_t i = 0; i < size; i++) {
        char byte = bucket[i];
        bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        if (!is_letter && !(byte >= '0' && byte <= '9') && !strchr("-._", byte)) return false;
    }
    return true;
}

static bool has_dots(const char *key) {
    for (const char *segment = key; segment;) {
        size_t size = strcspn(segment, "/");
        if ((size == 1 && *segment == '.') || (size == 2 && !strncmp(segment, "..", 2))) return true;
        segment = segment[size] ? segment + size + 1 : NULL;
    }
    return false;
}

static int check_key(const char *uri, const char *key, const char *version, struct error **ret_error) {
    if (has_dots(key))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s: \".\" and \"..\" between slashes lead nowhere in S3",
                         uri);
    if (version && (!*version || !*key || text_ends_with(key, "/")))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s: ?versionId= is of one object, as in "
                         "s3://bucket/model.onnx?versionId=…",
                         uri);
    return 0;
}

int registry_s3_parse(const char *uri, struct registry_s3_uri *ret_uri, struct error **ret_error) {
    static const char mark[] = "?versionId=";
    size_t length = strlen(uri);
    if (length > URI_MAXIMUM || !registry_path_is_plain(uri))
        return error_set(ret_error, ERROR_CONFIGURATION, "the s3: URI is %s",
                         length > URI_MAXIMUM ? "longer than 4096 bytes"
                                              : "not UTF-8, or has a control character in it");
    const char *bucket = strncasecmp(uri, "s3://", 5) ? NULL : uri + 5;
    size_t size = bucket ? strcspn(bucket, "/?") : 0;
    if (!bucket || !bucket_is_good(bucket, size))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is not of the form s3://bucket/prefix", uri);
    const char *key = bucket[size] == '/' ? bucket + size + 1 : bucket + size, *version = NULL;
    for (const char *at = strstr(key, mark); at; at = strstr(at + 1, mark)) version = at + sizeof mark - 1;
    size_t key_size = version ? (size_t)(version - key) - (sizeof mark - 1) : strlen(key);
    struct registry_s3_uri parsed = {
        .bucket = text_copy_bytes(bucket, size),
        .key = text_copy_bytes(key, key_size),
        .version_id = text_copy(version),
    };
    int result = check_key(uri, parsed.key, parsed.version_id, ret_error);
    if (result < 0) {
        registry_s3_uri_clear(&parsed);
        return result;
    }
    *ret_uri = parsed;
    return 0;
}

/* ---- the server ---- */

static const char *ask(const struct registry_servers *servers, const char *name) {
    const char *value = registry_environment(servers, name);
    return value && *value ? value : NULL;
}

/* What the environment says is said of the default server only. */
static const char *ask_either(const struct registry_servers *servers, const struct registry_server *server,
                              const char *first, const char *second) {
    if (*server->name) return NULL;
    const char *value = ask(servers, first);
    return value ? value : ask(servers, second);
}

static void describe_server(const struct registry_context *context, const struct registry_server *server,
                            const struct registry_s3_credentials *credentials, struct s3_config *config) {
    const char *endpoint = ask_either(context->servers, server, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    const char *region = ask_either(context->servers, server, "AWS_REGION", "AWS_DEFAULT_REGION");
    registry_transfer_config(context, &config->transfer);
    config->transfer.ca_file = server->ca_file;
    config->endpoint = server->url ? server->url : endpoint;
    config->region = server->region ? server->region : region ? region : credentials->region;
    config->path_style = server->path_style;
    config->access_key_id = credentials->access_key_id;
    config->secret_access_key = credentials->secret_access_key;
    config->session_token = credentials->session_token;
}

int registry_s3_open(const struct registry_context *context, const char *bucket, struct s3 **ret_s3,
                     struct error **ret_error) {
    const struct registry_server *server = registry_server_for(context->servers, REGISTRY_S3, bucket);
    if (!server) {
        _cleanup_free_ char *uri = text_format("s3://%s", bucket);
        return registry_fail_unconfigured(uri, REGISTRY_S3_HOW, ret_error);
    }
    _cleanup_s3_credentials_ struct registry_s3_credentials credentials = {0};
    int result = registry_s3_read_credentials(context->servers, server, &credentials, ret_error);
    if (result < 0) return result;
    struct s3_config config = {0};
    describe_server(context, server, &credentials, &config);
    return s3_open(&config, ret_s3, ret_error);
}
