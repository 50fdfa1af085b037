#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define DEFAULT_TIMEOUT_MS 60000
#define UPLOAD_BUFFER_BYTES 524288L
#define ANSWER_MAXIMUM ((size_t)256 * 1024 * 1024)

const char *slipway_version(void) {
#define VERSION_TEXT(major, minor, patch) #major "." #minor "." #patch
#define VERSION_EXPANDED(major, minor, patch) VERSION_TEXT(major, minor, patch)
    return VERSION_EXPANDED(SLIPWAY_VERSION_MAJOR, SLIPWAY_VERSION_MINOR, SLIPWAY_VERSION_PATCH);
}

void slipway_set_timeout(struct slipway *service, uint32_t timeout_ms) {
    service->timeout_ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
}

void client_answer_clear(struct client_answer *answer) {
    buffer_clear(&answer->body);
}

static size_t take_body(char *bytes, size_t size, size_t count, void *context) {
    struct client_answer *answer = context;
    answer->heard_ms = clock_monotonic_ms();
    if (!answer->request->take || answer->http_status / 100 != 2)
        return buffer_append(&answer->body, bytes, size * count) ? size * count : 0;
    answer->broken_off = !answer->request->take(answer->request->take_context, bytes, size * count);
    return answer->broken_off ? 0 : size * count;
}

static size_t give_body(char *bytes, size_t size, size_t count, void *context) {
    struct client_answer *answer = context;
    answer->heard_ms = clock_monotonic_ms();
    int64_t given = answer->request->read(answer->request->read_context, bytes, size * count);
    if (given >= 0 && (uint64_t)given <= size * count) return (size_t)given;
    answer->broken_off = true;
    return CURL_READFUNC_ABORT;
}

/* The header's value when it has that name, else NULL. Not NUL-terminated: ends before "\r\n". */
static const char *header_value(const char *line, size_t size, const char *name) {
    size_t length = strlen(name);
    if (size <= length || strncasecmp(line, name, length) != 0 || line[length] != ':') return NULL;
    const char *value = line + length + 1;
    while (value < line + size && (*value == ' ' || *value == '\t')) value++;
    return value;
}

static size_t take_header(char *line, size_t size, size_t count, void *context) {
    struct client_answer *answer = context;
    const char *value;
    if (size * count > 5 && !strncmp(line, "HTTP/", 5)) { /* a new head: what an interim answer said is gone */
        const char *status = memchr(line, ' ', size * count);
        answer->http_status = status ? strtol(status, NULL, 10) : 0;
        answer->total_count = 0;
        answer->retry_after_ms = 0;
        answer->is_problem = false;
    }
    if ((value = header_value(line, size * count, "X-Total-Count"))) answer->total_count = strtoull(value, NULL, 10);
    if ((value = header_value(line, size * count, "Retry-After")))
        answer->retry_after_ms = (uint32_t)(strtoul(value, NULL, 10) % 4000000) * 1000;
    if ((value = header_value(line, size * count, "Content-Type")))
        answer->is_problem = !strncasecmp(value, "application/problem+json", 24);
    if (answer->request->position && (value = header_value(line, size * count, "X-Slipway-Position")))
        buffer_append(answer->request->position, value, strcspn(value, "\r\n"));
    return size * count;
}

/* libcurl asks about once a second, also when nothing comes. */
static int check_quiet(void *context, curl_off_t total, curl_off_t now, curl_off_t sent_total, curl_off_t sent_now) {
    const struct client_answer *answer = context;
    (void)total, (void)now, (void)sent_total, (void)sent_now;
    return clock_monotonic_ms() - answer->heard_ms > answer->request->quiet_ms;
}

static struct curl_slist *append_header(struct curl_slist *headers, const char *name, const char *value) {
    _cleanup_free_ char *line = text_format("%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(headers, line);
    return longer ? longer : headers;
}

static struct curl_slist *make_headers(const struct slipway *service, const struct client_request *request) {
    struct curl_slist *headers =
        append_header(NULL, "Accept", request->take ? "application/x-ndjson, application/json" : "application/json");
    if (request->body || request->read)
        headers =
            append_header(headers, "Content-Type", request->content_type ? request->content_type : "application/json");
    if (request->idempotency_key) headers = append_header(headers, "Idempotency-Key", request->idempotency_key);
    if (service->token) {
        _cleanup_free_ char *value = text_format("Bearer %s", service->token);
        headers = append_header(headers, "Authorization", value);
    }
    return append_header(headers, "Expect", "");
}

static void set_options(struct slipway *service, const struct client_request *request, const char *url,
                        struct curl_slist *headers, struct client_answer *answer, char *reason) {
    CURL *curl = service->curl;
    uint32_t timeout_ms = request->timeout_ms ? request->timeout_ms : service->timeout_ms;
    curl_easy_reset(curl); /* the connection stays */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    client_set_way(service);
    if (request->quiet_ms) {
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, check_quiet);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, answer);
    } else if (request->take) { /* as long as bytes come */
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)(timeout_ms + 999) / 1000);
    } else {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    if (request->read) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, answer);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
        /* Not known: chunked. */
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                         request->body_size ? (curl_off_t)request->body_size : (curl_off_t)-1);
    }
    if (!request->body) return;
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
}

int client_send(struct slipway *service, const struct client_request *request, struct client_answer *ret_answer,
                struct slipway_error **ret_error) {
    char reason[CURL_ERROR_SIZE] = "";
    _cleanup_free_ char *url = text_format("%s%s", service->url, request->path);
    struct curl_slist *headers = make_headers(service, request);
    struct client_answer answer = {
        .body = {.maximum = ANSWER_MAXIMUM}, .request = request, .heard_ms = clock_monotonic_ms()};
    bool has_empty_body = !request->body && !request->read && strcmp(request->method, "GET") != 0;
    struct client_request sent = *request;
    if (has_empty_body) sent.body = ""; /* POST and PUT want a Content-Length */
    set_options(service, &sent, url, headers, &answer, reason);
    CURLcode code = curl_easy_perform(service->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        client_answer_clear(&answer);
        if (answer.broken_off)
            return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "%s %s%s: the caller broke it off",
                                request->method, service->shown, request->path);
        if (service->socket && code == CURLE_COULDNT_CONNECT) /* libcurl would speak of a port */
            snprintf(reason, sizeof reason, "nobody answers at this socket, or it is not for this user");
        return client_error(ret_error, SLIPWAY_UNAVAILABLE, 0, "%s %s%s: %s", request->method, service->shown,
                            request->path, *reason ? reason : curl_easy_strerror(code));
    }
    curl_easy_getinfo(service->curl, CURLINFO_RESPONSE_CODE, &answer.http_status);
    if (answer.http_status >= 200 && answer.http_status < 300) {
        *ret_answer = answer;
        return 0;
    }
    int result = client_error_from_answer(&answer, ret_error);
    client_answer_clear(&answer);
    return result;
}

char *client_path(const char *prefix, const char *id, const char *suffix) {
    _cleanup_free_ char *encoded = text_percent_encode(id, strlen(id));
    return text_format("%s%s%s", prefix, encoded, suffix);
}
