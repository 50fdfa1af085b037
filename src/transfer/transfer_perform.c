/* A request whose answer is kept in memory, tried again while that can help. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define ANSWER_MAXIMUM ((size_t)1 << 20)

/* To the end of one try, behind its redirects. */
static enum call_outcome run(struct call *call, struct error **ret_error) {
    enum call_outcome outcome;
    do {
        while (!call->is_done)
            if (transfer_turn(call->transfer, &call, 1, UINT64_MAX, ret_error) < 0) return CALL_FAILED;
        outcome = call_finish(call, ret_error);
    } while (outcome == CALL_MOVED);
    return outcome;
}

static int wait_until(struct transfer *transfer, uint64_t until_ms, struct error **ret_error) {
    while (clock_monotonic_ms() < until_ms) {
        int result = transfer_turn(transfer, NULL, 0, until_ms, ret_error);
        if (result < 0) return result;
    }
    return transfer_check(transfer, ret_error);
}

static void give_answer(struct call *call, struct transfer_answer *ret_answer) {
    ret_answer->status = call->status;
    ret_answer->body = buffer_take(&call->body, &ret_answer->body_size);
    ret_answer->headers = buffer_take(&call->head, NULL);
    ret_answer->url = text_copy(call->url);
}

static int give_error(struct error *error, struct error **ret_error) {
    int class = (int)error->class;
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return -class;
}

/* Whether what has just failed may be done once more: not what may have arrived and counts twice. */
static bool may_repeat(const struct call *call, unsigned failures, uint64_t *ret_pause_ms) {
    if (failures >= call->transfer->config.attempts || (call->request.only_once && call->is_connected)) return false;
    return call_pause(call, failures, ret_pause_ms);
}

int transfer_perform(struct transfer *transfer, const struct transfer_request *request,
                     struct transfer_answer *ret_answer, struct error **ret_error) {
    _cleanup_call_ struct call call;
    call_begin(&call, transfer);
    call.body.maximum = request->answer_maximum ? request->answer_maximum : ANSWER_MAXIMUM;
    for (unsigned failures = 1;; failures++) {
        struct error *error = NULL;
        int result = call_start(&call, request, &error);
        enum call_outcome outcome = result < 0 ? CALL_FAILED : run(&call, &error);
        if (outcome == CALL_ANSWERED) {
            give_answer(&call, ret_answer);
            return 0;
        }
        uint64_t pause_ms;
        if (outcome == CALL_FAILED || !may_repeat(&call, failures, &pause_ms)) return give_error(error, ret_error);
        error_free(error);
        result = wait_until(transfer, clock_monotonic_ms() + pause_ms, ret_error);
        if (result < 0) return result;
    }
}
