/* One request and its answer over libcurl. Redirects are followed here and not by libcurl, because each has to be
 * looked at: whether its host is allowed, and whether the credentials may go there. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "transfer/transfer-internal.h"

#define REDIRECTS_MAXIMUM 5
#define RECEIVE_BUFFER_BYTES (512l << 10) /* the most that libcurl 7.88 takes */
#define SEND_BUFFER_BYTES (1l << 20)
#define PAUSE_FIRST_MS 200
#define PAUSE_MAXIMUM_MS 10000
#define PATIENCE_S 300

void call_begin(struct call *call, struct transfer *transfer) {
    *call = (struct call){.transfer = transfer, .curl = curl_easy_init()};
    call->head.maximum = TRANSFER_HEADERS_MAXIMUM;
}

void call_stop(struct call *call) {
    if (call->is_running) curl_multi_remove_handle(call->transfer->multi, call->curl);
    call->is_running = false;
}

/* Keeps the memory. */
static void empty(struct buffer *buffer) {
    buffer->size = 0;
    if (buffer->bytes) *buffer->bytes = '\0';
}

/* What one exchange leaves. */
static void forget_exchange(struct call *call) {
    call_stop(call);
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    free(call->refused);
    call->refused = NULL;
    error_free(call->failure);
    call->failure = NULL;
    *call->reason = '\0';
    call->is_done = call->is_connected = call->is_enough = call->failure_is_final = false;
    call->sent_bytes = 0;
    call->status = 0;
    call->code = CURLE_OK;
    empty(&call->head);
    empty(&call->body);
}

void call_clear(struct call *call) {
    forget_exchange(call);
    if (call->curl) curl_easy_cleanup(call->curl);
    free(call->url);
    free(call->home);
    buffer_clear(&call->head);
    buffer_clear(&call->body);
    *call = (struct call){0};
}

int call_fail(struct call *call, bool is_final, struct error *error) {
    error_free(call->failure);
    call->failure = error;
    call->failure_is_final = is_final;
    return -1;
}

/* ---- what libcurl asks and tells ---- */

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    struct call *call = context;
    (void)purpose;
    if (transfer_address_is_allowed(&address->addr))
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    char text[INET6_ADDRSTRLEN] = "of another kind";
    const struct sockaddr *any = &address->addr;
    if (any->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)any)->sin_addr, text, sizeof text);
    else if (any->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)any)->sin6_addr, text, sizeof text);
    free(call->refused);
    call->refused = text_copy(text);
    return CURL_SOCKET_BAD;
}

static int note_connected(void *context, char *theirs, char *ours, int their_port, int our_port) {
    struct call *call = context;
    (void)theirs, (void)ours, (void)their_port, (void)our_port;
    call->is_connected = true;
    call->heard_ms = clock_monotonic_ms();
    return CURL_PREREQFUNC_OK;
}

static bool is_redirect(const struct call *call) {
    static const int statuses[] = {301, 302, 303, 307, 308};
    bool is_one = false;
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) is_one |= call->status == statuses[i];
    if (!is_one || call->request.keep_redirect) return false;
    _cleanup_free_ char *location = transfer_find_header(call->head.bytes, "Location");
    return location != NULL;
}

static size_t take_head(char *bytes, size_t size, size_t count, void *context) {
    struct call *call = context;
    size *= count;
    call->heard_ms = clock_monotonic_ms();
    if (size > 5 && !strncmp(bytes, "HTTP/", 5)) {
        const char *status = memchr(bytes, ' ', size);
        call->status = status ? (int)strtol(status, NULL, 10) : 0;
        empty(&call->head);
    }
    if (!buffer_append(&call->head, bytes, size)) {
        struct error *error = NULL;
        error_set(&error, call->transfer->config.class, "the head of the answer is longer than %u bytes",
                  TRANSFER_HEADERS_MAXIMUM);
        call_fail(call, true, error);
        return 0;
    }
    bool is_end = bytes[0] == '\r' || bytes[0] == '\n';
    if (!is_end || call->status < 200 || !call->on_head || is_redirect(call)) return size;
    return call->on_head(call) < 0 ? 0 : size;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *context) {
    struct call *call = context;
    size *= count;
    call->heard_ms = clock_monotonic_ms();
    if (is_redirect(call)) {
        call->is_enough = true; /* a connection is dear, but its words may be long */
        return call->body.size + size < TRANSFER_ERROR_BODY_MAXIMUM && buffer_append(&call->body, bytes, size) ? size
                                                                                                               : 0;
    }
    if (call->on_body) return call->on_body(call, bytes, size) < 0 ? 0 : size;
    if (buffer_append(&call->body, bytes, size)) return size;
    if (call->status >= 300 || call->request.cut) { /* its beginning has the words */
        size_t room = call->body.maximum - call->body.size;
        call->is_enough = buffer_append(&call->body, bytes, room < size ? room : size);
        return 0;
    }
    struct error *error = NULL;
    error_set(&error, call->transfer->config.class, "the answer is longer than the %zu bytes that it may have",
              call->body.maximum);
    call_fail(call, true, error);
    return 0;
}

static size_t give_body(char *bytes, size_t size, size_t count, void *context) {
    struct call *call = context;
    const struct transfer_request *request = &call->request;
    size *= count;
    uint64_t left = request->body_size - call->sent_bytes;
    if (size > left) size = left;
    call->heard_ms = clock_monotonic_ms();
    if (!size) return 0;
    size_t got = size;
    struct error *error = NULL;
    if (!request->read)
        memcpy(bytes, (const char *)request->body + call->sent_bytes, size);
    else if (request->read(request->read_context, call->sent_bytes, bytes, size, &got, &error) < 0) {
        call_fail(call, true, error);
        return CURL_READFUNC_ABORT;
    }
    call->sent_bytes += got;
    return got;
}

static int seek_body(void *context, curl_off_t offset, int origin) {
    struct call *call = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > call->request.body_size) return CURL_SEEKFUNC_FAIL;
    call->sent_bytes = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- asking ---- */

static void add_header(struct call *call, const char *line) {
    struct curl_slist *longer = curl_slist_append(call->headers, line);
    if (longer) call->headers = longer;
}

/* What is another way to carry credentials stays at home, too. */
static bool is_secret(const char *line) {
    static const char *const names[] = {"authorization:", "proxy-authorization:", "cookie:", "x-amz-"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strncasecmp(line, names[i], strlen(names[i]))) return true;
    return false;
}

static bool is_at_home(const struct call *call) {
    _cleanup_free_ char *origin = transfer_origin(call->url);
    return text_equal(origin, call->home);
}

static bool has_header(const struct call *call, const char *name) {
    for (const struct curl_slist *at = call->headers; at; at = at->next)
        if (!strncasecmp(at->data, name, strlen(name)) && at->data[strlen(name)] == ':') return true;
    return false;
}

static void sign(struct call *call) {
    const struct transfer_request *request = &call->request;
    const struct transfer_credentials *credentials = &request->credentials;
    if (!has_header(call, "x-amz-content-sha256")) { /* libcurl 7.88 would send none */
        char hex[DIGEST_HEX_SIZE] = "UNSIGNED-PAYLOAD";
        if (!request->read) digest_bytes(request->body_size ? request->body : "", request->body_size, hex);
        _cleanup_free_ char *line = text_format("x-amz-content-sha256: %s", hex);
        add_header(call, line);
    }
    if (credentials->session_token) {
        _cleanup_free_ char *line = text_format("x-amz-security-token: %s", credentials->session_token);
        add_header(call, line);
    }
    _cleanup_free_ char *scope = text_format("aws:amz:%s:%s", credentials->region ? credentials->region : "us-east-1",
                                             credentials->service ? credentials->service : "s3");
    curl_easy_setopt(call->curl, CURLOPT_AWS_SIGV4, scope);
}

static void set_credentials(struct call *call) {
    const struct transfer_credentials *credentials = &call->request.credentials;
    if (credentials->kind == TRANSFER_ANONYMOUS || !is_at_home(call)) return;
    CURL *curl = call->curl;
    if (credentials->kind == TRANSFER_BEARER) {
        _cleanup_free_ char *line = text_format("Authorization: Bearer %s", credentials->secret);
        add_header(call, line);
        return;
    }
    curl_easy_setopt(curl, CURLOPT_USERNAME, credentials->user ? credentials->user : "");
    curl_easy_setopt(curl, CURLOPT_PASSWORD, credentials->secret ? credentials->secret : "");
    if (credentials->kind == TRANSFER_BASIC) curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    if (credentials->kind == TRANSFER_AWS) sign(call);
}

static void set_headers(struct call *call) {
    const struct transfer_request *request = &call->request;
    bool at_home = is_at_home(call);
    for (size_t i = 0; i < request->header_count; i++)
        if (at_home || !is_secret(request->headers[i])) add_header(call, request->headers[i]);
    for (size_t i = 0; i < ARRAY_SIZE(call->extra_headers); i++)
        if (call->extra_headers[i]) add_header(call, call->extra_headers[i]);
    set_credentials(call);
    /* Servers that do not know it cost a second each time. libcurl 7.88 would sign it as if it were sent; object stores
     * do know it. */
    if (request->credentials.kind != TRANSFER_AWS) add_header(call, "Expect:");
    curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, call->headers);
}

static void set_method(struct call *call) {
    const struct transfer_request *request = &call->request;
    const char *method = request->method ? request->method : "GET";
    CURL *curl = call->curl;
    if (!strcmp(method, "HEAD")) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        return;
    }
    static const char *const with_body[] = {"POST", "PUT", "PATCH"};
    bool has_body = request->body_size;
    for (size_t i = 0; i < ARRAY_SIZE(with_body); i++) has_body |= !strcmp(method, with_body[i]);
    if (has_body) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_size);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, call);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, seek_body);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, call);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static void set_connection(struct call *call) {
    const struct transfer_config *config = &call->transfer->config;
    CURL *curl = call->curl;
    _cleanup_free_ char *agent = text_format("slipway/%s", build_version());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1); /* a connection a download */
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    curl_easy_setopt(curl, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)config->connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, note_connected);
    curl_easy_setopt(curl, CURLOPT_PREREQDATA, call);
    /* libcurl itself sends again what an old connection swallowed */
    if (call->request.only_once) curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    if (config->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, config->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
}

static int start_exchange(struct call *call, struct error **ret_error) {
    forget_exchange(call);
    CURL *curl = call->curl;
    curl_easy_reset(curl);
    set_connection(call);
    set_method(call);
    set_headers(call);
    curl_easy_setopt(curl, CURLOPT_URL, call->url);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, call);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, call->reason);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    call->heard_ms = clock_monotonic_ms();
    CURLMcode code = curl_multi_add_handle(call->transfer->multi, curl);
    if (code) return error_set(ret_error, call->transfer->config.class, "libcurl: %s", curl_multi_strerror(code));
    call->is_running = true;
    return 0;
}

int call_start(struct call *call, const struct transfer_request *request, struct error **ret_error) {
    int result = transfer_check_url(call->transfer, request->url, ret_error);
    if (result < 0) return result;
    call->request = *request;
    call->redirects = 0;
    free(call->url);
    free(call->home);
    call->url = text_copy(request->url);
    call->home = transfer_origin(request->url);
    return start_exchange(call, ret_error);
}

/* ---- what became of it ---- */

/* GET behind 303, and behind what has always been treated so (RFC 9110, 15.4). */
static void change_method(struct call *call) {
    struct transfer_request *request = &call->request;
    bool is_post = request->method && !strcmp(request->method, "POST");
    bool is_head = request->method && !strcmp(request->method, "HEAD");
    if (is_head || !(call->status == 303 || (is_post && (call->status == 301 || call->status == 302)))) return;
    request->method = NULL;
    request->body = NULL;
    request->read = NULL;
    request->body_size = 0;
}

static enum call_outcome follow(struct call *call, struct error **ret_error) {
    if (++call->redirects > REDIRECTS_MAXIMUM) {
        _cleanup_free_ char *shown = transfer_public_url(call->request.url);
        error_set(ret_error, call->transfer->config.class, "%s redirects more than %d times", shown, REDIRECTS_MAXIMUM);
        return CALL_FAILED;
    }
    _cleanup_free_ char *location = transfer_find_header(call->head.bytes, "Location");
    char *next = NULL;
    if (transfer_follow(call->transfer, call->url, location, &next, ret_error) < 0) return CALL_FAILED;
    free(call->url);
    call->url = next;
    change_method(call);
    return start_exchange(call, ret_error) < 0 ? CALL_FAILED : CALL_MOVED;
}

/* Failures that trying again does not mend. */
static bool is_final(CURLcode code) {
    static const CURLcode final[] = {
        CURLE_UNSUPPORTED_PROTOCOL,  CURLE_URL_MALFORMAT,    CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
        CURLE_SSL_CERTPROBLEM,       CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS,    CURLE_UNSUPPORTED_PROTOCOL,
        CURLE_BAD_FUNCTION_ARGUMENT, CURLE_FILESIZE_EXCEEDED};
    for (size_t i = 0; i < ARRAY_SIZE(final); i++)
        if (final[i] == code) return true;
    return false;
}

static enum call_outcome fail_connection(const struct call *call, struct error **ret_error) {
    const char *reason = *call->reason ? call->reason : curl_easy_strerror(call->code);
    enum error_class class = call->transfer->config.class;
    bool final = is_final(call->code);
    if (call->refused && !call->is_connected) {
        error_set(ret_error, class,
                  "its address %s is not one that may be connected to: link-local, multicast, reserved, or where "
                  "clouds keep credentials",
                  call->refused);
        final = true;
    } else {
        error_set(ret_error, class, "%s", reason);
    }
    _cleanup_free_ char *shown = transfer_public_url(call->url);
    error_wrap(ret_error, "%s", shown);
    if (!final) error_mark_transient(ret_error);
    return final ? CALL_FAILED : CALL_AGAIN;
}

static enum call_outcome give_failure(struct call *call, struct error **ret_error) {
    _cleanup_free_ char *shown = transfer_public_url(call->url);
    struct error *failure = TAKE(call->failure);
    if (failure->class == call->transfer->config.class) error_wrap(&failure, "%s", shown);
    if (!call->failure_is_final) error_mark_transient(&failure);
    *ret_error = failure;
    return call->failure_is_final ? CALL_FAILED : CALL_AGAIN;
}

enum call_outcome call_finish(struct call *call, struct error **ret_error) {
    call_stop(call);
    call->is_done = false;
    if (call->failure) return give_failure(call, ret_error);
    if (call->code && !call->is_enough) return fail_connection(call, ret_error);
    if (is_redirect(call)) return follow(call, ret_error);
    if (call->status < 500 && call->status != 408 && call->status != 429) return CALL_ANSWERED;
    transfer_fail_status(call->transfer, call->status, call->url, call->body.bytes, call->body.size, ret_error);
    error_mark_transient(ret_error);
    return CALL_AGAIN;
}

static uint64_t pause_ms(const struct call *call, unsigned failures) {
    curl_off_t asked_s = 0;
    if (call->status >= 300) curl_easy_getinfo(call->curl, CURLINFO_RETRY_AFTER, &asked_s);
    if (asked_s > 0) return asked_s > PATIENCE_S ? UINT64_MAX : (uint64_t)asked_s * 1000;
    uint64_t pause = PAUSE_FIRST_MS;
    while (failures-- > 1 && pause < PAUSE_MAXIMUM_MS) pause *= 2;
    if (pause > PAUSE_MAXIMUM_MS) pause = PAUSE_MAXIMUM_MS;
    uint64_t spread = (uint64_t)(uintptr_t)call / 64 + clock_monotonic_us(); /* so that many do not come at once */
    return pause / 2 + spread % (pause / 2 + 1);
}

bool call_pause(const struct call *call, unsigned failures, uint64_t *ret_pause_ms) {
    uint64_t deadline = call->transfer->config.deadline_ms, now = clock_monotonic_ms();
    *ret_pause_ms = pause_ms(call, failures);
    return *ret_pause_ms != UINT64_MAX && (!deadline || now + *ret_pause_ms < deadline);
}
