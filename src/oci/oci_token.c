/* Tokens: a registry says where (realm) and for which service; the answer is JSON with a bearer token. With an identity
 * token the request is OAuth 2.0's for a refresh token, otherwise a GET, with Basic when there is a user. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define TOKEN_MAXIMUM (64u << 10) /* bytes of an answer */
#define LIFE_DEFAULT 60 /* seconds, when the answer does not say */
#define LIFE_MAXIMUM (24 * 3600)

static void add_parameter(struct buffer *buffer, const char *name, const char *value, char *mark) {
    if (!value) return;
    _cleanup_free_ char *encoded = text_percent_encode(value, strlen(value));
    buffer_append_format(buffer, "%c%s=%s", *mark, name, encoded);
    *mark = '&';
}

/* One scope parameter for each of the scopes. */
static void add_scopes(struct buffer *buffer, const char *scopes, char *mark) {
    while (*scopes) {
        size_t length = strcspn(scopes, " ");
        _cleanup_free_ char *scope = text_copy_bytes(scopes, length);
        add_parameter(buffer, "scope", scope, mark);
        scopes += length + strspn(scopes + length, " ");
    }
}

/* The credentials go there: not from https to http, and only where the operator said. */
static int check_realm(const struct oci *oci, const char *realm, struct error **ret_error) {
    _cleanup_free_ char *shown = transfer_public_url(realm);
    bool is_secure = !strncasecmp(realm, "https://", 8);
    if (!is_secure && (strncasecmp(realm, "http://", 7) || text_starts_with(oci->origin, "https:")))
        return oci_fail(oci, ret_error, "the registry %s sends to %s for a token, which is not https", oci->registry,
                        shown);
    if (!transfer_host_matches(realm, oci->config.hosts, oci->config.host_count))
        return oci_fail(oci, ret_error,
                        "the registry %s sends to %s for a token: if that is right, name its host in redirect_hosts of "
                        "the registry's section",
                        oci->registry, shown);
    return 0;
}

static int read_answer(struct oci *oci, const struct transfer_answer *answer, const char *scope,
                       struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    const char *token = NULL;
    int64_t seconds = LIFE_DEFAULT;
    if (json_parse_object(answer->body, answer->body_size, &document, &root, NULL) < 0 ||
        json_get_text(root, "", "token", false, &token, NULL) < 0 ||
        (!token && json_get_text(root, "", "access_token", true, &token, NULL) < 0))
        return oci_fail(oci, ret_error, "the answer is no JSON object with a token");
    json_get_number(root, "", "expires_in", false, 1, LIFE_MAXIMUM, &seconds, NULL);
    if (!*token || strpbrk(token, "\r\n")) return oci_fail(oci, ret_error, "the token in the answer is none");
    oci_keep_token(oci, scope, token, (uint64_t)seconds);
    return 0;
}

static void write_get(struct oci *oci, const struct oci_challenge *challenge, const char *scope, struct buffer *url,
                      struct transfer_request *request) {
    char mark = strchr(challenge->realm, '?') ? '&' : '?';
    buffer_append_text(url, challenge->realm);
    add_parameter(url, "service", challenge->service, &mark);
    add_scopes(url, scope, &mark);
    if (oci->username) {
        add_parameter(url, "account", oci->username, &mark);
        request->credentials = (struct transfer_credentials){
            .kind = TRANSFER_BASIC, .user = oci->username, .secret = oci->password ? oci->password : ""};
    }
}

static void write_refresh(struct oci *oci, const struct oci_challenge *challenge, const char *scope, struct buffer *url,
                          struct buffer *body, struct transfer_request *request) {
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded"};
    buffer_append_text(url, challenge->realm);
    buffer_append_text(body, "grant_type=refresh_token");
    char mark = '&';
    add_parameter(body, "service", challenge->service, &mark);
    add_parameter(body, "client_id", "slipway", &mark);
    add_parameter(body, "scope", scope, &mark);
    add_parameter(body, "refresh_token", oci->identity_token, &mark);
    request->method = "POST";
    request->headers = headers;
    request->header_count = ARRAY_SIZE(headers);
    request->body = body->bytes;
    request->body_size = body->size;
}

int oci_fetch_token(struct oci *oci, const struct oci_challenge *challenge, const char *scope,
                    struct error **ret_error) {
    int result = check_realm(oci, challenge->realm, ret_error);
    if (result < 0) return result;
    _cleanup_buffer_ struct buffer url = {0}, body = {0};
    struct transfer_request request = {.answer_maximum = TOKEN_MAXIMUM};
    if (oci->identity_token)
        write_refresh(oci, challenge, scope, &url, &body, &request);
    else
        write_get(oci, challenge, scope, &url, &request);
    request.url = url.bytes;
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = transfer_perform(oci->transfer, &request, &answer, ret_error);
    if (result >= 0)
        result = answer.status == 200 ? read_answer(oci, &answer, scope, ret_error)
                                      : oci_fail_answer(oci, &answer, ret_error);
    if (result >= 0) return 0;
    _cleanup_free_ char *shown = transfer_public_url(challenge->realm);
    return error_wrap(ret_error, "a token for %s from %s", scope, shown);
}
