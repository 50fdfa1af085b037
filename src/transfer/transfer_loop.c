/* Opening and closing, and the loop that moves the bytes of all calls of one transfer. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define TURN_MS 100 /* between two looks at *canceled and the clocks */

int transfer_open(const struct transfer_config *config, struct transfer **ret_transfer, struct error **ret_error) {
    curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; thread-safe from libcurl 7.84 */
    CURLM *multi = curl_multi_init();
    if (!multi) {
        curl_global_cleanup();
        return error_set(ret_error, ERROR_DEPLOYMENT, "libcurl could not be started");
    }
    struct transfer *transfer = mem_new(struct transfer);
    *transfer = (struct transfer){.config = *config, .multi = multi};
    if (!transfer->config.attempts) transfer->config.attempts = 1;
    if (!transfer->config.parallel) transfer->config.parallel = 1;
    *ret_transfer = transfer;
    return 0;
}

void transfer_close(struct transfer *transfer) {
    if (!transfer) return;
    curl_multi_cleanup(transfer->multi);
    curl_global_cleanup();
    free(transfer);
}

int transfer_check(const struct transfer *transfer, struct error **ret_error) {
    const struct transfer_config *config = &transfer->config;
    if (config->canceled && atomic_load(config->canceled)) return error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
    if (!config->deadline_ms || clock_monotonic_ms() < config->deadline_ms) return 0;
    error_set(ret_error, config->class, "it took too long: its deadline has passed");
    return error_mark_transient(ret_error), -(int)config->class;
}

static void collect(struct transfer *transfer) {
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(transfer->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        struct call *call = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        call->code = message->data.result;
        call->is_done = true;
    }
}

/* libcurl's own clock for silence counts whole seconds, and does not count the wait for an answer. */
static void end_silent(const struct transfer *transfer, struct call *call, uint64_t now) {
    uint64_t patience = transfer->config.stall_timeout_ms;
    if (!patience || !call->is_running || call->is_done || !call->is_connected) return;
    if (now < call->heard_ms || now - call->heard_ms < patience) return;
    call_stop(call);
    call->is_done = true;
    call->code = CURLE_OPERATION_TIMEDOUT;
    _cleanup_free_ char *reason =
        text_format("no byte came or went for %llu ms", (unsigned long long)transfer->config.stall_timeout_ms);
    strncpy(call->reason, reason, sizeof call->reason - 1);
}

static bool some_done(struct call *const *calls, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (calls[i]->is_done) return true;
    return false;
}

int transfer_turn(struct transfer *transfer, struct call *const *calls, size_t count, uint64_t until_ms,
                  struct error **ret_error) {
    int result = transfer_check(transfer, ret_error);
    if (result < 0) return result;
    int running = 0;
    CURLMcode code = curl_multi_perform(transfer->multi, &running);
    collect(transfer);
    uint64_t now = clock_monotonic_ms();
    for (size_t i = 0; i < count; i++) end_silent(transfer, calls[i], now);
    if (some_done(calls, count)) return 0;
    uint64_t wait = until_ms > now ? until_ms - now : 0;
    if (!code) code = curl_multi_poll(transfer->multi, NULL, 0, (int)(wait < TURN_MS ? wait : TURN_MS), NULL);
    if (code) return error_set(ret_error, transfer->config.class, "libcurl: %s", curl_multi_strerror(code));
    return 0;
}
