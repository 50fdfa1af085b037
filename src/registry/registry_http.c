/* The HTTP registry: one .onnx file or one archive on any web server that the operator named.
 *
 * What is there is asked for by a GET of its first bytes (Range): unlike HEAD, servers that sign their URLs allow it,
 * and it shows what the file is. A digest comes with the URI (#sha256=…) or lies beside the file (URL.sha256, as
 * sha256sum writes it). With one, the URI that is resolved to is URL#sha256=…, and what is fetched is checked against
 * it. Without, a strong ETag, or else date and length together, tell whether it is still the same.
 *
 * A resolution has one file; what is in an archive is known only once it is fetched. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "registry/registry_http-internal.h"
#include "registry/registry_servers.h"
#include "transfer/transfer.h"

#define HOSTS_MAXIMUM 256
#define FIRST_BYTES 1024 /* enough to tell an archive by */
#define AT_REST_S 3
#define DIGEST_MAXIMUM 65536 /* of a list of digests */
#define ETAG_IDENTITY "etag "
#define DIGEST_IDENTITY "sha256 "

/* A server with its secret, for as long as it is talked to. */
struct session {
    struct transfer *transfer;
    struct transfer_credentials credentials;
    char *secret;
    const char *hosts[HOSTS_MAXIMUM];
};

/* What a server says of a file. */
struct finding {
    uint64_t size_bytes;
    char *tag, *modified; /* strong ETag; Last-Modified */
    bool is_archive, is_page;
};

static void clear_finding(struct finding *finding) {
    free(finding->tag);
    free(finding->modified);
}
#define _cleanup_finding_ __attribute__((cleanup(clear_finding)))

/* ---- the session ---- */

static size_t add_hosts(struct session *session, size_t count, char *const *hosts) {
    for (; hosts && *hosts && count < HOSTS_MAXIMUM; hosts++) session->hosts[count++] = *hosts;
    return count;
}

static void close_session(struct session *session) {
    transfer_close(session->transfer);
    if (session->secret) explicit_bzero(session->secret, strlen(session->secret));
    free(session->secret);
}
#define _cleanup_session_ __attribute__((cleanup(close_session)))

static int read_credentials(struct session *session, const struct registry_server *server, struct error **ret_error) {
    int result = registry_read_secret(server->token, server->token_file, &session->secret, ret_error);
    if (result < 0) return result;
    if (session->secret) {
        session->credentials = (struct transfer_credentials){.kind = TRANSFER_BEARER, .secret = session->secret};
        return 0;
    }
    result = registry_read_secret(server->password, server->password_file, &session->secret, ret_error);
    if (result < 0 || (!server->username && !session->secret)) return result;
    session->credentials = (struct transfer_credentials){
        .kind = TRANSFER_BASIC, .user = server->username, .secret = session->secret ? session->secret : ""};
    return 0;
}

static int fail_unconfigured(const char *url, struct error **ret_error) {
    _cleanup_free_ char *shown = transfer_public_url(url);
    return registry_fail_unconfigured(
        shown, "name its host in a section [http NAME] of the file of the setting registries", ret_error);
}

static int open_session(const struct registry_context *context, const char *url, struct session *ret_session,
                        struct error **ret_error) {
    const struct registry_server *server = registry_server_for(context->servers, REGISTRY_HTTP, url);
    if (!server) return fail_unconfigured(url, ret_error);
    int result = read_credentials(ret_session, server, ret_error);
    if (result < 0) return result;
    struct transfer_config config;
    registry_transfer_config(context, &config);
    config.hosts = ret_session->hosts;
    config.host_count = add_hosts(ret_session, 0, server->hosts);
    config.host_count = add_hosts(ret_session, config.host_count, server->redirect_hosts);
    config.ca_file = server->ca_file;
    return transfer_open(&config, &ret_session->transfer, ret_error);
}

/* Puts the URL before an error that does not name it. */
static int name_error(const char *url, struct error **error) {
    _cleanup_free_ char *shown = transfer_public_url(url);
    _cleanup_free_ char *text = error_text(error ? *error : NULL);
    return strstr(text, shown) ? -(int)(*error)->class : error_wrap(error, "%s", shown);
}

/* ---- check ---- */

static int http_check(const struct registry_context *context, const char *uri, struct error **ret_error) {
    _cleanup_http_uri_ struct http_uri parsed = {0};
    int result = registry_http_parse(uri, &parsed, ret_error);
    if (result < 0) return result;
    return registry_server_for(context->servers, REGISTRY_HTTP, parsed.url) ? 0
                                                                            : fail_unconfigured(parsed.url, ret_error);
}

/* ---- what is there ---- */

static void take_size(const struct transfer_answer *answer, struct finding *finding) {
    _cleanup_free_ char *range = transfer_answer_header(answer, "Content-Range");
    _cleanup_free_ char *length = transfer_answer_header(answer, "Content-Length");
    const char *slash = range ? strrchr(range, '/') : NULL;
    const char *text = answer->status == 200 ? length : slash ? slash + 1 : NULL;
    if (!text || !text_parse_number(text, INT64_MAX, &finding->size_bytes)) finding->size_bytes = REGISTRY_SIZE_UNKNOWN;
}

static bool parse_date(const char *text, time_t *ret_time) {
    struct tm parts = {0};
    const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts) : NULL;
    *ret_time = timegm(&parts);
    return end && !*end;
}

/* A date tells only of a file that is at rest: within its second, it could change again. */
static char *take_date(const struct transfer_answer *answer) {
    _cleanup_free_ char *now = transfer_answer_header(answer, "Date");
    _cleanup_free_ char *modified = transfer_answer_header(answer, "Last-Modified");
    time_t sent, changed;
    bool tells = parse_date(now, &sent) && parse_date(modified, &changed) && sent - changed >= AT_REST_S;
    return tells ? TAKE(modified) : NULL;
}

/* Asks for the first bytes; an empty file has none to give (416). */
static int look_at(struct session *session, const char *url, struct finding *ret_finding, struct error **ret_error) {
    static const char *const headers[] = {"Range: bytes=0-1023"};
    struct transfer_request request = {.url = url,
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .credentials = session->credentials,
                                       .answer_maximum = FIRST_BYTES,
                                       .cut = true};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = transfer_perform(session->transfer, &request, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status != 200 && answer.status != 206 && answer.status != 416)
        return transfer_fail_answer(session->transfer, &answer, ret_error);
    take_size(&answer, ret_finding);
    if (answer.status == 416 && ret_finding->size_bytes) /* what it gives is no file */
        return transfer_fail_answer(session->transfer, &answer, ret_error);
    ret_finding->tag = transfer_answer_header(&answer, "ETag");
    if (ret_finding->tag && *ret_finding->tag != '"') free(TAKE(ret_finding->tag)); /* W/"…": the same only nearly */
    ret_finding->modified = take_date(&answer);
    ret_finding->is_archive = registry_bytes_are_archive(answer.body, answer.body_size);
    _cleanup_free_ char *type = transfer_answer_header(&answer, "Content-Type");
    ret_finding->is_page = type && !ret_finding->is_archive && !strncasecmp(type, "text/html", 9);
    return 0;
}

/* NULL: nothing tells. Caller frees. */
static char *identity_of(const struct finding *finding, const char *sha256) {
    if (sha256) return text_format(DIGEST_IDENTITY "%s", sha256);
    if (finding->tag) return text_format(ETAG_IDENTITY "%s", finding->tag);
    if (!finding->modified || finding->size_bytes == REGISTRY_SIZE_UNKNOWN) return NULL;
    return text_format("modified %s length %llu", finding->modified, (unsigned long long)finding->size_bytes);
}

/* The digest that lies beside it; *ret_sha256 NULL when there is none. */
static int find_digest(struct session *session, const struct http_uri *uri, char **ret_sha256,
                       struct error **ret_error) {
    _cleanup_free_ char *url = registry_http_digest_url(uri);
    struct transfer_request request = {
        .url = url, .credentials = session->credentials, .answer_maximum = DIGEST_MAXIMUM};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = transfer_perform(session->transfer, &request, &answer, ret_error);
    if (result < 0) return error_wrap(ret_error, "look for its digest");
    /* Object stores say 403 of what is not there to those who may not list. */
    if (answer.status == 404 || answer.status == 403 || answer.status == 410) return 0;
    if (answer.status != 200) return transfer_fail_answer(session->transfer, &answer, ret_error);
    if (registry_http_find_digest(answer.body, uri->name, ret_sha256)) return 0;
    _cleanup_free_ char *shown = transfer_public_url(url);
    return error_set(ret_error, ERROR_MODEL_REGISTRY,
                     "%s holds no SHA-256 of %s; it should be 64 hexadecimal digits, or what sha256sum writes", shown,
                     uri->name);
}

/* Its name in the folder: model.onnx as from a file, or one that shows that it is to be unpacked. */
static int name_file(const struct http_uri *uri, const struct finding *finding, const char **ret_path,
                     struct error **ret_error) {
    if (finding->is_page)
        return error_set(ret_error, ERROR_MODEL_REGISTRY,
                         "the server answers with an HTML page, and not with a model; does it want a login?");
    bool is_archive = registry_is_archive(uri->name) || finding->is_archive;
    if (is_archive || text_ends_with(uri->name, ".onnx")) {
        *ret_path = is_archive ? REGISTRY_HTTP_ARCHIVE : "model.onnx";
        return 0;
    }
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "\"%s\" is neither an .onnx file nor an archive (tar, tar.gz, tar.zst, zip)", uri->name);
}

static int resolve_uri(const struct registry_context *context, const struct http_uri *uri,
                       struct registry_resolution *resolution, struct error **ret_error) {
    _cleanup_session_ struct session session = {0};
    _cleanup_finding_ struct finding finding = {0};
    _cleanup_free_ char *sha256 = text_copy(uri->sha256);
    const char *path = NULL;
    int result = open_session(context, uri->url, &session, ret_error);
    if (!result) result = look_at(&session, uri->url, &finding, ret_error);
    if (!result) result = name_file(uri, &finding, &path, ret_error);
    if (!result && !sha256) result = find_digest(&session, uri, &sha256, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *identity = identity_of(&finding, sha256);
    result =
        registry_resolution_add(context, resolution, path, finding.size_bytes, sha256, identity, uri->url, ret_error);
    if (result < 0) return result;
    resolution->location = text_copy(uri->url);
    if (sha256) resolution->resolved_uri = text_format("%s#sha256=%s", uri->url, sha256);
    return registry_resolution_finish(resolution, uri->url, ret_error);
}

static int http_resolve(const struct registry_context *context, const char *uri,
                        struct registry_resolution *ret_resolution, struct error **ret_error) {
    _cleanup_http_uri_ struct http_uri parsed = {0};
    struct registry_resolution resolution = {0};
    int result = registry_check_canceled(context, ret_error);
    if (!result) result = registry_http_parse(uri, &parsed, ret_error);
    if (!result) result = resolve_uri(context, &parsed, &resolution, ret_error);
    if (result < 0) {
        registry_resolution_clear(&resolution);
        return name_error(uri, ret_error);
    }
    *ret_resolution = resolution;
    return 0;
}

/* ---- fetch ---- */

static int describe(void *state, const struct registry_file *file, struct transfer_file *ret_file,
                    struct error **ret_error) {
    const struct session *session = state;
    (void)ret_error;
    ret_file->url = file->source;
    ret_file->credentials = session->credentials;
    if (file->identity && text_starts_with(file->identity, ETAG_IDENTITY))
        ret_file->validator = file->identity + strlen(ETAG_IDENTITY);
    return 0;
}

/* Where neither digest nor ETag is checked on the way: it must be the same still. */
static int check_unchanged(struct session *session, const struct registry_file *file, struct error **ret_error) {
    if (!file->identity || text_starts_with(file->identity, ETAG_IDENTITY) ||
        text_starts_with(file->identity, DIGEST_IDENTITY))
        return 0;
    _cleanup_finding_ struct finding finding = {0};
    int result = look_at(session, file->source, &finding, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *identity = identity_of(&finding, NULL);
    if (text_equal(identity, file->identity)) return 0;
    error_set(ret_error, ERROR_MODEL_REGISTRY, "it changed while it was fetched; try again when it is at rest");
    return error_mark_transient(ret_error);
}

/* The first bytes may show what a name did not, or a server may have given something else since. */
static int unpack(const struct registry_context *context, const struct registry_resolution *resolution,
                  const char *folder, struct error **ret_error) {
    if (strcmp(resolution->files[0].path, REGISTRY_HTTP_ARCHIVE)) return 0;
    return registry_unpack(context, folder, REGISTRY_HTTP_ARCHIVE, ret_error);
}

static int http_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                      const char *folder, struct error **ret_error) {
    _cleanup_session_ struct session session = {0};
    int result = open_session(context, resolution->location, &session, ret_error);
    if (!result)
        result = registry_download(context, session.transfer, resolution, folder, describe, &session, ret_error);
    if (!result) result = check_unchanged(&session, &resolution->files[0], ret_error);
    if (!result) result = unpack(context, resolution, folder, ret_error);
    return result < 0 ? name_error(resolution->location, ret_error) : 0;
}

static const char *const schemes[] = {"https", "http", NULL};

const struct registry_ops http_registry = {
    .name = "http",
    .schemes = schemes,
    .check = http_check,
    .resolve = http_resolve,
    .fetch = http_fetch,
};
