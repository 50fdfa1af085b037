#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "registry/registry_http-internal.h"
#include "transfer/transfer.h"

#define URI_MAXIMUM 4096
#define HEX_SIZE 64

void registry_http_uri_clear(struct http_uri *uri) {
    free(uri->url);
    free(uri->name);
    free(uri->sha256);
    *uri = (struct http_uri){0};
}

/* 64 digits and no more; caller frees, lower case; NULL otherwise. */
static char *take_hex(const char *text) {
    unsigned char ignored[DIGEST_SIZE];
    if (strspn(text, "0123456789abcdefABCDEF") != HEX_SIZE) return NULL;
    char *hex = text_copy_bytes(text, HEX_SIZE);
    for (char *at = hex; *at; at++) *at = (char)tolower((unsigned char)*at);
    if (digest_parse(hex, ignored)) return hex;
    free(hex);
    return NULL;
}

/* ---- the URI ---- */

static int take_fragment(const char *fragment, struct http_uri *uri, struct error **ret_error) {
    static const char key[] = "sha256=";
    if (text_starts_with(fragment, key) && strlen(fragment) == strlen(key) + HEX_SIZE)
        uri->sha256 = take_hex(fragment + strlen(key));
    if (uri->sha256) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "what follows # in the model URI must be sha256= and 64 hexadecimal digits");
}

/* The names by which clouds and forges hand out access in a query. */
static bool is_secret_name(const char *name, size_t size) {
    static const char *const names[] = {"x-amz-signature",
                                        "x-amz-security-token",
                                        "x-amz-credential",
                                        "x-goog-signature",
                                        "x-goog-credential",
                                        "awsaccesskeyid",
                                        "signature",
                                        "sig",
                                        "token",
                                        "access_token",
                                        "private_token",
                                        "auth",
                                        "api_key",
                                        "apikey",
                                        "key",
                                        "password",
                                        "secret"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) == size && !strncasecmp(names[i], name, size)) return true;
    return false;
}

static int check_query(const char *query, struct error **ret_error) {
    for (const char *at = query; *at;) {
        size_t pair = strcspn(at, "&");
        size_t raw_size = strcspn(at, "=&");
        _cleanup_free_ char *name = NULL;
        size_t size = 0;
        if (!text_percent_decode(at, raw_size, &name, &size))
            return error_set(ret_error, ERROR_CONFIGURATION, "the query of the model URI is malformed");
        if (is_secret_name(name, size))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the query of the model URI carries a secret (%s); a URI is recorded and shown, so "
                             "credentials belong in the file of the setting registries",
                             name);
        at += at[pair] ? pair + 1 : pair;
    }
    return 0;
}

/* Between "//" and the path. */
static int check_authority(const char *authority, size_t size, struct error **ret_error) {
    if (memchr(authority, '@', size))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model URI holds a user or password; credentials belong in the file of the setting "
                         "registries");
    if (size) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "the model URI has no host");
}

static int take_name(const char *path, size_t size, struct http_uri *uri, struct error **ret_error) {
    const char *start = path + size;
    while (start > path && start[-1] != '/') start--;
    size_t decoded;
    if (text_percent_decode(start, size - (size_t)(start - path), &uri->name, &decoded) && *uri->name &&
        registry_path_is_plain(uri->name))
        return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the model URI names no file: it must end in one, like https://host/path/model.onnx");
}

static int parse(const char *uri, struct http_uri *parsed, struct error **ret_error) {
    size_t length = strlen(uri);
    if (length > URI_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "the model URI is longer than %d bytes", URI_MAXIMUM);
    for (const char *at = uri; *at; at++)
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 0x7f || *at == '\\')
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the model URI has a space, a control character, a backslash or a letter beyond ASCII in "
                             "it; write it percent-encoded");
    bool is_http = !strncasecmp(uri, "http://", 7), is_https = !strncasecmp(uri, "https://", 8);
    if (!is_http && !is_https)
        return error_set(ret_error, ERROR_CONFIGURATION, "the model URI must begin with http:// or https://");
    const char *authority = uri + (is_https ? 8 : 7);
    const char *path = authority + strcspn(authority, "/?#");
    const char *query = path + strcspn(path, "?#");
    const char *fragment = query + strcspn(query, "#");
    _cleanup_free_ char *query_text = text_copy_bytes(query, (size_t)(fragment - query));
    parsed->url = text_copy_bytes(uri, (size_t)(fragment - uri));
    int result = check_authority(authority, (size_t)(path - authority), ret_error);
    if (!result) result = check_query(*query_text ? query_text + 1 : query_text, ret_error);
    if (!result) result = take_name(path, (size_t)(query - path), parsed, ret_error);
    if (!result && *fragment) result = take_fragment(fragment + 1, parsed, ret_error);
    return result;
}

int registry_http_parse(const char *uri, struct http_uri *ret_uri, struct error **ret_error) {
    struct http_uri parsed = {0};
    int result = parse(uri, &parsed, ret_error);
    if (result < 0)
        registry_http_uri_clear(&parsed);
    else
        *ret_uri = parsed;
    return result;
}

/* ---- digests ---- */

char *registry_http_digest_url(const struct http_uri *uri) {
    size_t path = strcspn(uri->url, "?");
    return text_format("%.*s.sha256%s", (int)path, uri->url, uri->url + path);
}

/* What a line says of which file; the name is "" where it names none. */
static char *take_line(const char *line, size_t size, char **ret_name) {
    _cleanup_free_ char *text = text_copy_bytes(line, size);
    static const char tag[] = "SHA256 (";
    char *close = strrchr(text, ')');
    if (text_starts_with(text, tag) && close && text_starts_with(close, ") = ")) {
        *ret_name = text_copy_bytes(text + strlen(tag), (size_t)(close - text) - strlen(tag));
        return strlen(close + 4) == HEX_SIZE ? take_hex(close + 4) : NULL;
    }
    const char *rest = text + strcspn(text, " \t");
    const char *name = rest + strspn(rest, " \t");
    *ret_name = text_copy(*name == '*' ? name + 1 : name);
    return rest - text == HEX_SIZE ? take_hex(text) : NULL;
}

static bool names(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return !strcmp(slash ? slash + 1 : path, name);
}

bool registry_http_find_digest(const char *text, const char *name, char **ret_sha256) {
    _cleanup_free_ char *only = NULL;
    size_t count = 0;
    for (const char *line = text; *line;) {
        size_t size = strcspn(line, "\r\n");
        _cleanup_free_ char *named = NULL;
        char *hex = size ? take_line(line, size, &named) : NULL;
        if (hex && names(named, name)) {
            *ret_sha256 = hex;
            return true;
        }
        count += size != 0;
        free(only);
        only = hex;
        line += size + strspn(line + size, "\r\n");
    }
    if (count != 1 || !only) return false;
    *ret_sha256 = TAKE(only);
    return true;
}
