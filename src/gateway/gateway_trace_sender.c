/* The slots and the thread that sends what is in them: batches of at most 512 spans, at least once a second, as
 * opentelemetry.io/docs/specs/otlp ("OTLP/HTTP") has it: JSON by POST; 429, 502, 503, 504 and broken connections are
 * tried again with growing pauses or after Retry-After, everything else is lost. libcurl, since collectors are reached
 * by name and by TLS, neither of which the loop's own client knows; it is started with the first endpoint. */
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_trace-internal.h"
#include "slipway_version.h"

#define BATCH_SPANS 512
#define BATCH_EVERY_MS 1000
#define POST_TIMEOUT_MS 10000L
#define ATTEMPTS 5
#define PAUSE_FIRST_MS 1000
#define PAUSE_MAXIMUM_MS 30000
#define END_MS 800 /* what sending may take at the end */
#define JOIN_SLACK_MS 100
#define ANSWER_MAXIMUM 65536
#define BODY_KEPT (1024u * 1024)
#define PATH "/v1/traces"

struct gateway_tracer {
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    char *endpoint; /* under the mutex */
    struct gateway_trace *finished, **finished_end; /* under the mutex */
    size_t finished_spans; /* under the mutex */
    struct gateway_trace *returned; /* under the mutex */
    uint64_t end_by_ms; /* under the mutex; 0: it does not end */
    bool has_ended; /* under the mutex: the thread uses nothing any more */
    atomic_uint_fast64_t sent, dropped;

    /* the loop's: */
    bool is_on, has_thread;
    unsigned percent;
    struct gateway_trace *spare;
    size_t slots;
    uint64_t random;
    pthread_t thread;
    CURLM *multi; /* the sender's; the loop wakes it */

    /* the sender's: */
    char *instance;
    CURL *curl;
    struct curl_slist *headers;
    struct buffer body, answer;
    uint64_t retry_after_ms;
    bool is_failing; /* which has been logged */
};

/* ---- slots (loop) -------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014): ids must differ, not be secret. */
uint64_t gateway_tracer_number(struct gateway_tracer *tracer) {
    uint64_t number;
    do {
        number = tracer->random += 0x9e3779b97f4a7c15;
        number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
        number = (number ^ number >> 27) * 0x94d049bb133111eb;
        number ^= number >> 31;
    } while (!number);
    return number;
}

bool gateway_tracer_is_on(const struct gateway_tracer *tracer) {
    return tracer->is_on;
}

bool gateway_tracer_samples(struct gateway_tracer *tracer) {
    return tracer->percent >= 100 || (tracer->percent && gateway_tracer_number(tracer) % 100 < tracer->percent);
}

struct gateway_trace *gateway_tracer_take(struct gateway_tracer *tracer) {
    if (!tracer->spare) {
        pthread_mutex_lock(&tracer->mutex);
        tracer->spare = TAKE(tracer->returned);
        pthread_mutex_unlock(&tracer->mutex);
    }
    struct gateway_trace *trace = tracer->spare;
    if (trace) {
        tracer->spare = trace->next;
    } else if (tracer->slots < GATEWAY_TRACE_SLOTS) {
        tracer->slots++;
        trace = mem_alloc(sizeof *trace);
    } else {
        atomic_fetch_add(&tracer->dropped, 1);
    }
    return trace;
}

void gateway_tracer_put(struct gateway_tracer *tracer, struct gateway_trace *trace) {
    size_t spans = gateway_trace_span_count(trace);
    trace->next = NULL;
    pthread_mutex_lock(&tracer->mutex);
    bool was_empty = !tracer->finished, was_short = tracer->finished_spans < BATCH_SPANS;
    *tracer->finished_end = trace;
    tracer->finished_end = &trace->next;
    tracer->finished_spans += spans;
    if (was_empty || (was_short && tracer->finished_spans >= BATCH_SPANS)) pthread_cond_signal(&tracer->has_work);
    pthread_mutex_unlock(&tracer->mutex);
}

uint64_t gateway_tracer_sent(const struct gateway_tracer *tracer) {
    return atomic_load(&tracer->sent);
}

uint64_t gateway_tracer_dropped(const struct gateway_tracer *tracer) {
    return atomic_load(&tracer->dropped);
}

/* ---- waiting (sender, under the mutex) ------------------------------------------- */

static void wait_until(struct gateway_tracer *tracer, uint64_t at_ms) {
    struct timespec at = {(time_t)(at_ms / 1000), (long)(at_ms % 1000) * 1000000};
    pthread_cond_timedwait(&tracer->has_work, &tracer->mutex, &at);
}

/* Until there is a whole batch, or something for a second, or the end. False: it ends, and there is nothing. */
static bool wait_for_batch(struct gateway_tracer *tracer) {
    while (!tracer->finished && !tracer->end_by_ms) pthread_cond_wait(&tracer->has_work, &tracer->mutex);
    uint64_t at_ms = clock_monotonic_ms() + BATCH_EVERY_MS;
    while (tracer->finished_spans < BATCH_SPANS && !tracer->end_by_ms && clock_monotonic_ms() < at_ms)
        wait_until(tracer, at_ms);
    return tracer->finished;
}

/* A pause between two attempts; false: it ends, and there is no time for one. */
static bool pause_for(struct gateway_tracer *tracer, uint64_t pause_ms) {
    uint64_t at_ms = clock_monotonic_ms() + pause_ms;
    pthread_mutex_lock(&tracer->mutex);
    while (!tracer->end_by_ms && clock_monotonic_ms() < at_ms) wait_until(tracer, at_ms);
    bool goes_on = !tracer->end_by_ms;
    pthread_mutex_unlock(&tracer->mutex);
    return goes_on;
}

/* 0: as long as it takes. */
static uint64_t end_by(struct gateway_tracer *tracer) {
    pthread_mutex_lock(&tracer->mutex);
    uint64_t end_by_ms = tracer->end_by_ms;
    pthread_mutex_unlock(&tracer->mutex);
    return end_by_ms;
}

/* ---- a batch (sender) ---------------------------------------------------------------- */

/* Whole requests, up to BATCH_SPANS; one with more goes alone. Under the mutex. */
static struct gateway_trace *take_batch(struct gateway_tracer *tracer, size_t *ret_spans) {
    struct gateway_trace *first = tracer->finished, **end = &first;
    *ret_spans = 0;
    while (*end) {
        size_t spans = gateway_trace_span_count(*end);
        if (*ret_spans && *ret_spans + spans > BATCH_SPANS) break;
        *ret_spans += spans;
        end = &(*end)->next;
    }
    tracer->finished = *end;
    *end = NULL;
    if (!tracer->finished) tracer->finished_end = &tracer->finished;
    tracer->finished_spans -= *ret_spans;
    return first;
}

static void write_batch(struct gateway_tracer *tracer, const struct gateway_trace *first) {
    struct buffer *body = &tracer->body;
    if (body->capacity > BODY_KEPT) buffer_clear(body);
    body->size = 0;
    buffer_append_format(body,
                         "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
                         "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"slipway\"}},"
                         "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"%s\"}},"
                         "{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"%s\"}},"
                         "{\"key\":\"process.pid\",\"value\":{\"intValue\":\"%d\"}}]},"
                         "\"scopeSpans\":[{\"scope\":{\"name\":\"slipway.gateway\",\"version\":\"%s\"},\"spans\":[",
                         SLIPWAY_VERSION, tracer->instance, (int)getpid(), SLIPWAY_VERSION);
    for (const struct gateway_trace *trace = first; trace; trace = trace->next)
        gateway_trace_write_spans(trace, trace == first, body);
    buffer_append_text(body, "]}]}]}");
}

static void give_back(struct gateway_tracer *tracer, struct gateway_trace *first) {
    struct gateway_trace **end = &first;
    while (*end) end = &(*end)->next;
    pthread_mutex_lock(&tracer->mutex);
    *end = tracer->returned;
    tracer->returned = first;
    pthread_mutex_unlock(&tracer->mutex);
}

/* ---- sending it ------------------------------------------------------------------------ */

static size_t take_answer(char *bytes, size_t size, size_t count, void *context) {
    struct gateway_tracer *tracer = context;
    buffer_append(&tracer->answer, bytes, size * count); /* what is above the ceiling nobody needs */
    return size * count;
}

static size_t take_header(char *bytes, size_t size, size_t count, void *context) {
    static const char name[] = "retry-after:";
    struct gateway_tracer *tracer = context;
    uint64_t seconds;
    if (size * count < sizeof name || strncasecmp(bytes, name, sizeof name - 1)) return size * count;
    _cleanup_free_ char *value = text_copy_bytes(bytes + sizeof name - 1, size * count - (sizeof name - 1));
    value[strcspn(value, "\r\n")] = 0;
    if (text_parse_number(value + strspn(value, " \t"), 86400, &seconds)) tracer->retry_after_ms = seconds * 1000;
    return size * count;
}

/* "http://host:4318" gets the path that the specification names; one that has a path keeps it. Caller frees. */
static char *url_of(struct gateway_tracer *tracer) {
    pthread_mutex_lock(&tracer->mutex);
    _cleanup_free_ char *endpoint = text_copy(tracer->endpoint);
    pthread_mutex_unlock(&tracer->mutex);
    const char *host = endpoint ? strstr(endpoint, "://") : NULL;
    if (!host) return NULL; /* switched off meanwhile */
    const char *path = strchr(host + 3, '/');
    if (path && path[1]) return TAKE(endpoint);
    return text_format("%.*s" PATH, path ? (int)(path - endpoint) : (int)strlen(endpoint), endpoint);
}

/* libcurl's result; CURLE_ABORTED_BY_CALLBACK when the end came first. */
static CURLcode run_post(struct gateway_tracer *tracer) {
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;
    curl_multi_add_handle(tracer->multi, tracer->curl);
    while (running) {
        curl_multi_perform(tracer->multi, &running);
        uint64_t end_by_ms = end_by(tracer), now_ms = clock_monotonic_ms();
        if (!running || (end_by_ms && now_ms >= end_by_ms)) break;
        curl_multi_poll(tracer->multi, NULL, 0, end_by_ms ? (int)(end_by_ms - now_ms) : 1000, NULL);
    }
    for (CURLMsg *message; (message = curl_multi_info_read(tracer->multi, &left));)
        if (message->msg == CURLMSG_DONE) code = message->data.result;
    curl_multi_remove_handle(tracer->multi, tracer->curl);
    return code;
}

static CURLcode post(struct gateway_tracer *tracer, const char *url, long *ret_status) {
    CURL *curl = tracer->curl;
    tracer->answer.size = 0;
    tracer->retry_after_ms = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, tracer->body.bytes);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)tracer->body.size);
    CURLcode code = run_post(tracer);
    *ret_status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    return code;
}

static bool may_go_again(CURLcode code, long status) {
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) return false;
    return code != CURLE_OK || status == 429 || status == 502 || status == 503 || status == 504;
}

/* {"partialSuccess":{"rejectedSpans":"3"}}: taken, but for so many. */
static uint64_t count_rejected(const struct buffer *answer) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root;
    uint64_t count = 0;
    if (!answer->size || json_parse_object(answer->bytes, answer->size, &document, &root, NULL) < 0) return 0;
    yyjson_val *rejected = yyjson_obj_get(yyjson_obj_get(root, "partialSuccess"), "rejectedSpans");
    if (yyjson_is_uint(rejected)) return yyjson_get_uint(rejected);
    if (yyjson_is_str(rejected)) text_parse_number(yyjson_get_str(rejected), INT64_MAX, &count);
    return count;
}

/* Once when it begins to fail and once when it works again. The endpoint is not named: it may carry a password. */
static void tell(struct gateway_tracer *tracer, CURLcode code, long status) {
    bool has_failed = code != CURLE_OK || status / 100 != 2;
    char text[64] = "";
    if (has_failed == tracer->is_failing) return;
    tracer->is_failing = has_failed;
    snprintf(text, sizeof text, "it answered %ld", status);
    if (has_failed)
        log_write(LOG_WARNING, "the collector does not take the traces (otlp_endpoint)", "cause",
                  code == CURLE_OK ? text : curl_easy_strerror(code), NULL);
    else
        log_write(LOG_INFO, "the collector takes the traces again", NULL);
}

/* Whether the collector has it. */
static bool send_body(struct gateway_tracer *tracer) {
    uint64_t pause_ms = PAUSE_FIRST_MS;
    for (int attempt = 1;; attempt++) {
        _cleanup_free_ char *url = url_of(tracer);
        long status = 0;
        CURLcode code = url ? post(tracer, url, &status) : CURLE_URL_MALFORMAT;
        if (url && code != CURLE_ABORTED_BY_CALLBACK) tell(tracer, code, status);
        if (code == CURLE_OK && status / 100 == 2) return true;
        if (attempt == ATTEMPTS || !may_go_again(code, status)) return false;
        uint64_t wanted_ms = tracer->retry_after_ms ? tracer->retry_after_ms : pause_ms;
        if (!pause_for(tracer, wanted_ms < PAUSE_MAXIMUM_MS ? wanted_ms : PAUSE_MAXIMUM_MS)) return false;
        pause_ms *= 2;
    }
}

static void send_batch(struct gateway_tracer *tracer, struct gateway_trace *batch, size_t spans) {
    write_batch(tracer, batch);
    give_back(tracer, batch);
    uint64_t lost = spans;
    if (send_body(tracer)) lost = count_rejected(&tracer->answer);
    if (lost > spans) lost = spans;
    atomic_fetch_add(&tracer->sent, spans - lost);
    atomic_fetch_add(&tracer->dropped, lost);
}

/* ---- the thread ------------------------------------------------------------------------- */

static void *run(void *context) {
    struct gateway_tracer *tracer = context;
    pthread_mutex_lock(&tracer->mutex);
    while (wait_for_batch(tracer)) {
        size_t spans;
        struct gateway_trace *batch = take_batch(tracer, &spans);
        pthread_mutex_unlock(&tracer->mutex);
        send_batch(tracer, batch, spans);
        pthread_mutex_lock(&tracer->mutex);
    }
    tracer->has_ended = true;
    pthread_cond_broadcast(&tracer->has_work);
    pthread_mutex_unlock(&tracer->mutex);
    return NULL;
}

static void open_curl(struct gateway_tracer *tracer) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    tracer->multi = curl_multi_init();
    tracer->curl = curl_easy_init();
    tracer->headers = curl_slist_append(NULL, "Content-Type: application/json");
    tracer->headers = curl_slist_append(tracer->headers, "Expect:"); /* no question before the body */
    CURL *curl = tracer->curl;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, tracer->headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "slipway/" SLIPWAY_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* a collector is a neighbour, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, POST_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, tracer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, tracer);
}

/* Signals are the loop's. */
static void start_thread(struct gateway_tracer *tracer) {
    sigset_t all, before;
    open_curl(tracer);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    tracer->has_thread = tracer->multi && tracer->curl && !pthread_create(&tracer->thread, NULL, run, tracer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!tracer->has_thread) log_write(LOG_ERROR, "traces cannot be sent: there is no memory for the sender", NULL);
}

/* ---- life -------------------------------------------------------------------------------- */

struct gateway_tracer *gateway_tracer_new(const char *instance) {
    struct gateway_tracer *tracer = mem_new(struct gateway_tracer);
    tracer->instance = text_copy(instance);
    tracer->finished_end = &tracer->finished;
    tracer->answer.maximum = ANSWER_MAXIMUM;
    if (getrandom(&tracer->random, sizeof tracer->random, 0) != sizeof tracer->random)
        tracer->random = clock_monotonic_us() ^ (uint64_t)getpid() << 40;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&tracer->has_work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&tracer->mutex, NULL);
    return tracer;
}

void gateway_tracer_configure(struct gateway_tracer *tracer, const char *endpoint, unsigned percent) {
    pthread_mutex_lock(&tracer->mutex);
    free(tracer->endpoint);
    tracer->endpoint = text_copy(endpoint);
    pthread_mutex_unlock(&tracer->mutex);
    tracer->percent = percent;
    if (*endpoint && !tracer->multi) start_thread(tracer);
    tracer->is_on = *endpoint && tracer->has_thread;
}

/* False: it hangs in a place that cannot be interrupted (a name that is being looked up), and what it uses must stay.
 */
static bool end_thread(struct gateway_tracer *tracer) {
    if (!tracer->has_thread) return true;
    pthread_mutex_lock(&tracer->mutex);
    tracer->end_by_ms = clock_monotonic_ms() + END_MS;
    uint64_t until_ms = tracer->end_by_ms + JOIN_SLACK_MS;
    pthread_cond_broadcast(&tracer->has_work);
    curl_multi_wakeup(tracer->multi);
    while (!tracer->has_ended && clock_monotonic_ms() < until_ms) wait_until(tracer, until_ms);
    bool has_ended = tracer->has_ended;
    pthread_mutex_unlock(&tracer->mutex);
    return has_ended && !pthread_join(tracer->thread, NULL);
}

static void free_traces(struct gateway_trace *trace) {
    while (trace) {
        struct gateway_trace *next = trace->next;
        free(trace);
        trace = next;
    }
}

void gateway_tracer_free(struct gateway_tracer *tracer) {
    if (!tracer || !end_thread(tracer)) return;
    if (tracer->curl) curl_easy_cleanup(tracer->curl);
    if (tracer->multi) {
        curl_multi_cleanup(tracer->multi);
        curl_slist_free_all(tracer->headers);
        curl_global_cleanup();
    }
    free_traces(tracer->finished);
    free_traces(tracer->returned);
    free_traces(tracer->spare);
    buffer_clear(&tracer->body);
    buffer_clear(&tracer->answer);
    pthread_cond_destroy(&tracer->has_work);
    pthread_mutex_destroy(&tracer->mutex);
    free(tracer->endpoint);
    free(tracer->instance);
    free(tracer);
}
