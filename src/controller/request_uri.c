/* Which model URIs are credentials: whoever has them needs no other. They are refused rather than hidden: a
 * deployment's URI is kept with its revision, shown, and used again. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/request.h"

/* Parameters of a query by which servers let in whoever brings them: signatures of object stores, and what web services
 * call their keys. */
static const char *const secret_parameters[] = {
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Credential",
    "X-Goog-Signature",
    "X-Goog-Credential",
    "Signature",
    "sig",
    "sign",
    "AWSAccessKeyId",
    "GoogleAccessId",
    "token",
    "access_token",
    "auth_token",
    "private_token",
    "api_key",
    "apikey",
    "key",
    "auth",
    "authorization",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "credential",
    "x-oss-signature",
};

static bool is_secret(const char *name, size_t size) {
    char *plain = NULL;
    size_t length;
    if (!text_percent_decode(name, size, &plain, &length)) return false;
    bool found = false;
    for (size_t i = 0; i < ARRAY_SIZE(secret_parameters) && !found; i++)
        found = !strcasecmp(plain, secret_parameters[i]);
    free(plain);
    return found;
}

/* The name of the first parameter of the query that is one, and its size. */
static const char *find_secret(const char *query, size_t *ret_size) {
    while (*query) {
        size_t size = strcspn(query, "&;#"), name = strcspn(query, "=&;#");
        if (is_secret(query, name)) {
            *ret_size = name;
            return query;
        }
        if (query[size] != '&' && query[size] != ';') return NULL;
        query += size + 1;
    }
    return NULL;
}

static bool has_user(const char *uri, const char *scheme_end) {
    if (!text_starts_with(scheme_end, "://")) return false;
    const char *authority = scheme_end + 3;
    return memchr(authority, '@', strcspn(authority, "/?#\\")) != NULL && scheme_end > uri;
}

int request_check_public(const char *uri, struct error **ret_error) {
    const char *end = isalpha((unsigned char)*uri) ? uri + strcspn(uri, ":/?#") : uri;
    if (*end != ':') return 0; /* a path */
    if (has_user(uri, end))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the URI has a user or a password before the host; URIs are kept and shown: give credentials "
                         "in the registries file (setting registries)");
    const char *query = strchr(uri, '?');
    size_t size = 0;
    const char *secret = query ? find_secret(query + 1, &size) : NULL;
    if (!secret) return 0;
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "the URI has the parameter %.*s in its query, which lets in whoever has it; URIs are kept and shown: "
        "name the thing without it, and give credentials in the registries file (setting registries)",
        (int)(size < 64 ? size : 64), secret);
}
