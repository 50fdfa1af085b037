/* Requests to one registry that authenticate themselves (OCI Distribution Specification 1.1; the token protocol is the
 * one of the distribution project, "Token Authentication Specification"). */
#include "oci/oci.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define READY_MS 10000 /* a token that lives shorter than this is not begun with */

static void copy_hosts(const struct oci_config *config, struct oci *oci) {
    oci->host_count = config->transfer.host_count + 1;
    oci->hosts = mem_new_array(oci->host_count, char *);
    oci->hosts[0] = text_copy(config->registry);
    for (size_t i = 1; i < oci->host_count; i++) oci->hosts[i] = text_copy(config->transfer.hosts[i - 1]);
}

int oci_open(const struct oci_config *config, struct oci **ret_oci, struct error **ret_error) {
    if (!oci_is_registry(config->registry))
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.200s\" is no registry: it reads host or host:port",
                         config->registry);
    struct oci *oci = mem_new(struct oci);
    oci->registry = text_copy(config->registry);
    oci->origin = text_format("%s://%s", config->plain_http ? "http" : "https", config->registry);
    oci->username = text_copy(config->username);
    oci->password = text_copy(config->password);
    oci->token = text_copy(config->token);
    oci->identity_token = text_copy(config->identity_token);
    copy_hosts(config, oci);
    oci->config = config->transfer;
    oci->config.hosts = (const char *const *)oci->hosts;
    oci->config.host_count = oci->host_count;
    int result = transfer_open(&oci->config, &oci->transfer, ret_error);
    if (result < 0) {
        oci_close(oci);
        return result;
    }
    *ret_oci = oci;
    return 0;
}

void oci_close(struct oci *oci) {
    if (!oci) return;
    transfer_close(oci->transfer);
    char *owned[] = {oci->registry, oci->origin, oci->username, oci->password, oci->token, oci->identity_token};
    for (size_t i = 0; i < ARRAY_SIZE(owned); i++) free(owned[i]);
    for (size_t i = 0; i < oci->host_count; i++) free(oci->hosts[i]);
    free(oci->hosts);
    for (size_t i = 0; i < oci->token_count; i++) {
        free(oci->tokens[i].scope);
        free(oci->tokens[i].token);
    }
    free(oci->tokens);
    free(oci);
}

struct transfer *oci_transfer(struct oci *oci) {
    return oci->transfer;
}

int oci_fail(const struct oci *oci, struct error **ret_error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *message = text_format_list(format, arguments);
    va_end(arguments);
    return error_set(ret_error, oci->config.class, "%s", message);
}

int oci_fail_answer(struct oci *oci, const struct transfer_answer *answer, struct error **ret_error) {
    int result = transfer_fail_answer(oci->transfer, answer, ret_error);
    if (answer->status != 401 && answer->status != 403) return result;
    bool has_credentials = oci->username || oci->token || oci->identity_token;
    return error_wrap(ret_error, "%s",
                      has_credentials ? "the registry does not take the credentials that are configured"
                                      : "the registry asks for credentials, and none are configured");
}

void oci_digest_bytes(const void *bytes, size_t size, char ret_digest[OCI_DIGEST_SIZE]) {
    memcpy(ret_digest, OCI_SHA256, strlen(OCI_SHA256));
    digest_bytes(bytes, size, ret_digest + strlen(OCI_SHA256));
}

char *oci_scope_pull(const char *repository) {
    return text_format("repository:%s:pull", repository);
}

char *oci_scope_push(const char *repository) {
    return text_format("repository:%s:pull,push", repository);
}

char *oci_url(const struct oci *oci, const char *repository, const char *kind, const char *name) {
    return text_format("%s/v2/%s/%s/%s", oci->origin, repository, kind, name);
}

bool oci_is_own_url(const struct oci *oci, const char *url) {
    size_t length = strlen(oci->origin);
    return !strncasecmp(url, oci->origin, length) && (!url[length] || strchr("/?", url[length]));
}

static struct oci_token *find_token(const struct oci *oci, const char *scope) {
    for (size_t i = 0; i < oci->token_count; i++)
        if (!strcmp(oci->tokens[i].scope, scope)) return &oci->tokens[i];
    return NULL;
}

void oci_keep_token(struct oci *oci, const char *scope, const char *token, uint64_t seconds) {
    struct oci_token *kept = find_token(oci, scope);
    if (!kept) {
        oci->tokens = mem_resize(oci->tokens, oci->token_count + 1, sizeof *oci->tokens);
        kept = &oci->tokens[oci->token_count++];
        *kept = (struct oci_token){.scope = text_copy(scope)};
    }
    free(kept->token);
    kept->token = text_copy(token);
    kept->expires_ms = token ? clock_monotonic_ms() + seconds * 1000 : UINT64_MAX;
}

bool oci_is_ready(const struct oci *oci, const char *scope) {
    const struct oci_token *token = find_token(oci, scope);
    return token && token->expires_ms > clock_monotonic_ms() + READY_MS;
}

bool oci_token_has_expired(const struct oci *oci, const char *repository) {
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    const struct oci_token *token = find_token(oci, scope);
    return token && token->token && token->expires_ms <= clock_monotonic_ms() + READY_MS;
}

void oci_credentials(const struct oci *oci, const char *scope, struct transfer_credentials *ret_credentials) {
    *ret_credentials = (struct transfer_credentials){.kind = TRANSFER_ANONYMOUS};
    const struct oci_token *token = find_token(oci, scope);
    if (token && token->token && token->expires_ms > clock_monotonic_ms()) {
        *ret_credentials = (struct transfer_credentials){.kind = TRANSFER_BEARER, .secret = token->token};
    } else if (oci->token) {
        *ret_credentials = (struct transfer_credentials){.kind = TRANSFER_BEARER, .secret = oci->token};
    } else if (oci->basic) {
        *ret_credentials = (struct transfer_credentials){
            .kind = TRANSFER_BASIC, .user = oci->username, .secret = oci->password ? oci->password : ""};
    }
}

/* 1: it is to be sent again, with what the answer asked for; 0: it stands. */
static int answer_challenge(struct oci *oci, const struct transfer_answer *answer, const char *scope,
                            struct error **ret_error) {
    _cleanup_free_ char *value = transfer_answer_header(answer, "WWW-Authenticate");
    _cleanup_challenge_ struct oci_challenge challenge = {0};
    if (value) oci_challenge_parse(value, &challenge);
    if (challenge.scheme == OCI_SCHEME_BASIC && oci->username && !oci->basic) {
        oci->basic = true;
        return 1;
    }
    if (challenge.scheme != OCI_SCHEME_BEARER) return 0;
    int result = oci_fetch_token(oci, &challenge, scope, ret_error);
    return result < 0 ? result : 1;
}

int oci_request(struct oci *oci, struct transfer_request *request, const char *scope,
                struct transfer_answer *ret_answer, struct error **ret_error) {
    bool is_own = oci_is_own_url(oci, request->url);
    if (is_own) oci_credentials(oci, scope, &request->credentials);
    int result = transfer_perform(oci->transfer, request, ret_answer, ret_error);
    if (result < 0 || !is_own) return result;
    if (ret_answer->status != 401) {
        if (!find_token(oci, scope)) oci_keep_token(oci, scope, NULL, 0);
        return 0;
    }
    if ((result = answer_challenge(oci, ret_answer, scope, ret_error)) <= 0) return result;
    transfer_answer_clear(ret_answer);
    oci_credentials(oci, scope, &request->credentials);
    return transfer_perform(oci->transfer, request, ret_answer, ret_error);
}
