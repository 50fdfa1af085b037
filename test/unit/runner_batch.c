/* The batcher: who runs with whom, and when, with a model that the test holds in its hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "runner/runner_batch-internal.h"

#define DEADLINE_S 30
#define GROUPS_MAXIMUM 4096

/* ---- planning ------------------------------------------------------------------------------------------------------
 */

static const struct batch_config limits = {.rows_maximum = 32, .tokens_maximum = 4096, .together = true};

static size_t plan_lengths(const struct batch_config *config, const size_t *lengths, size_t count,
                           struct batch_unit *units, struct batch_unit **sorted, size_t *ends) {
    for (size_t i = 0; i < count; i++) {
        units[i] = (struct batch_unit){.rows = 1, .length = lengths[i]};
        sorted[i] = &units[i];
    }
    return batch_plan(config, sorted, count, ends);
}

static void texts_of_like_length_run_together(void **state) {
    (void)state;
    const size_t lengths[] = {200, 10, 11, 9, 198};
    struct batch_unit units[5], *sorted[5];
    size_t ends[5];
    assert_int_equal(plan_lengths(&limits, lengths, 5, units, sorted, ends), 2);
    assert_int_equal(ends[0], 3); /* 9, 10, 11: padding them to 200 would cost more than a run */
    assert_int_equal(ends[1], 5);
    for (size_t i = 1; i < 5; i++) assert_true(sorted[i - 1]->length <= sorted[i]->length);
}

static void no_group_passes_a_ceiling_but_a_unit_that_does_alone(void **state) {
    (void)state;
    struct batch_config tight = limits;
    tight.rows_maximum = 4;
    tight.tokens_maximum = 100;
    size_t lengths[64], ends[64], tokens = 0;
    struct batch_unit units[64], *sorted[64];
    for (size_t i = 0; i < 64; i++) lengths[i] = i < 2 ? 500 : 5 + i * 7 % 40;
    size_t groups = plan_lengths(&tight, lengths, 64, units, sorted, ends);
    for (size_t i = 0, at = 0; i < groups; at = ends[i++]) {
        size_t rows = ends[i] - at, longest = sorted[ends[i] - 1]->length;
        assert_true(rows == 1 || (rows <= 4 && rows * longest <= 100));
        tokens += rows;
    }
    assert_int_equal(ends[groups - 1], 64);
    assert_int_equal(tokens, 64);
}

static void the_plan_is_the_cheapest(void **state) {
    (void)state;
    /* All 2^7 ways of cutting 8 sorted lengths, at the price that runner_batch.c names. */
    const size_t lengths[] = {4, 5, 9, 17, 18, 40, 41, 90};
    struct batch_unit units[8], *sorted[8];
    size_t ends[8], groups = plan_lengths(&limits, lengths, 8, units, sorted, ends), planned = 0, best = SIZE_MAX;
    for (size_t i = 0, at = 0; i < groups; at = ends[i++]) planned += 24 + (ends[i] - at) * lengths[ends[i] - 1];
    for (unsigned cuts = 0; cuts < 128; cuts++) {
        size_t cost = 0;
        for (size_t at = 0, end = 1; end <= 8; end++) {
            if (end < 8 && !(cuts & 1u << (end - 1))) continue;
            cost += 24 + (end - at) * lengths[end - 1];
            at = end;
        }
        if (cost < best) best = cost;
    }
    assert_int_equal(planned, best);
}

static void different_signatures_never_share_a_group(void **state) {
    (void)state;
    static const char *const signatures[] = {"aa", "bb", "c"};
    struct batch_unit units[30], *sorted[30];
    size_t ends[30];
    for (size_t i = 0; i < 30; i++) {
        const char *signature = signatures[i % 3];
        units[i] = (struct batch_unit){.rows = 1, .signature = signature, .signature_size = strlen(signature)};
        sorted[i] = &units[i];
    }
    assert_int_equal(batch_plan(&limits, sorted, 30, ends), 3);
    for (size_t i = 0, at = 0; i < 3; at = ends[i++])
        for (size_t j = at; j < ends[i]; j++) assert_ptr_equal(sorted[j]->signature, sorted[at]->signature);
}

static void a_model_that_a_batch_changes_runs_every_unit_alone(void **state) {
    (void)state;
    struct batch_config apart = limits;
    apart.together = false;
    const size_t lengths[] = {7, 7, 7, 7};
    struct batch_unit units[4], *sorted[4];
    size_t ends[4];
    assert_int_equal(plan_lengths(&apart, lengths, 4, units, sorted, ends), 4);
}

/* ---- the thread ----------------------------------------------------------------------------------------------------
 */

/* A model whose runs the test lets go one by one, and which writes down what ran together. */
struct bench {
    struct batcher *batcher;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t allowed, begun, finished; /* runs; requests */
    size_t sizes[GROUPS_MAXIMUM];
    size_t unit_count;
    const void *order[GROUPS_MAXIMUM]; /* payloads as they ran */
    const void *bad; /* a unit with this payload fails its group */
};

struct request {
    struct batch_request batch;
    struct batch_unit unit;
    bool back; /* under the bench's lock, as what follows */
    size_t place, run_by; /* its place among those that came back; units that had run by then */
};

static struct timespec deadline(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += DEADLINE_S;
    return at;
}

#define WAIT_UNTIL(bench, condition)                                                                                   \
    do {                                                                                                               \
        struct timespec end_ = deadline();                                                                             \
        while (!(condition))                                                                                           \
            if (pthread_cond_timedwait(&(bench)->changed, &(bench)->lock, &end_)) fail_msg("never: " #condition);      \
    } while (0)

static int hold_run(void *context, struct batch_unit *const *units, size_t count, struct error **ret_error) {
    struct bench *bench = context;
    int result = 0;
    pthread_mutex_lock(&bench->lock);
    size_t run = bench->begun++;
    bench->sizes[run % GROUPS_MAXIMUM] = count;
    for (size_t i = 0; i < count; i++) {
        bench->order[bench->unit_count++ % GROUPS_MAXIMUM] = units[i]->payload;
        if (bench->bad && units[i]->payload == bench->bad) result = error_set(ret_error, ERROR_REQUEST, "a bad one");
    }
    pthread_cond_broadcast(&bench->changed);
    while (run >= bench->allowed) pthread_cond_wait(&bench->changed, &bench->lock);
    pthread_mutex_unlock(&bench->lock);
    return result;
}

static void note_finished(void *context, struct batch_request *request) {
    struct bench *bench = context;
    pthread_mutex_lock(&bench->lock);
    struct request *own = CONTAINER_OF(request, struct request, batch);
    own->back = true;
    own->place = ++bench->finished;
    own->run_by = bench->unit_count;
    pthread_cond_broadcast(&bench->changed);
    pthread_mutex_unlock(&bench->lock);
}

static struct bench *bench_new(const struct batch_config *config) {
    struct bench *bench = mem_new(struct bench);
    struct batch_config own = *config;
    pthread_mutex_init(&bench->lock, NULL);
    pthread_cond_init(&bench->changed, NULL);
    own.run = hold_run;
    own.finished = note_finished;
    own.context = bench;
    bench->batcher = batcher_new(&own);
    return bench;
}

static void bench_free(struct bench *bench) {
    pthread_mutex_lock(&bench->lock);
    bench->allowed = SIZE_MAX;
    pthread_cond_broadcast(&bench->changed);
    pthread_mutex_unlock(&bench->lock);
    batcher_free(bench->batcher);
    pthread_cond_destroy(&bench->changed);
    pthread_mutex_destroy(&bench->lock);
    free(bench);
}

static void allow(struct bench *bench, size_t runs) {
    bench->allowed += runs;
    pthread_cond_broadcast(&bench->changed);
}

static void submit_one(struct bench *bench, struct request *request) {
    *request = (struct request){.unit = {.rows = 1, .length = 8, .payload = request}};
    request->batch.units = &request->unit;
    request->batch.unit_count = 1;
    batcher_submit(bench->batcher, &request->batch);
}

static void a_request_alone_runs_at_once(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request request;
    submit_one(bench, &request);
    pthread_mutex_lock(&bench->lock);
    WAIT_UNTIL(bench, bench->begun == 1);
    assert_int_equal(bench->sizes[0], 1);
    allow(bench, 1);
    WAIT_UNTIL(bench, bench->finished == 1);
    assert_int_equal(request.batch.largest_batch, 1);
    assert_null(request.batch.error);
    pthread_mutex_unlock(&bench->lock);
    bench_free(bench);
}

static void what_waited_during_a_run_goes_together(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request requests[9];
    submit_one(bench, &requests[0]);
    pthread_mutex_lock(&bench->lock);
    WAIT_UNTIL(bench, bench->begun == 1);
    for (size_t i = 1; i < 9; i++) submit_one(bench, &requests[i]);
    allow(bench, 2);
    WAIT_UNTIL(bench, bench->finished == 9);
    assert_int_equal(bench->begun, 2);
    assert_int_equal(bench->sizes[1], 8);
    for (size_t i = 1; i < 9; i++) assert_int_equal(requests[i].batch.largest_batch, 8);
    pthread_mutex_unlock(&bench->lock);
    const struct batch_statistics *statistics = batcher_statistics(bench->batcher);
    assert_int_equal(atomic_load(&statistics->batches), 2);
    assert_int_equal(atomic_load(&statistics->units), 9);
    assert_int_equal(atomic_load(&statistics->sizes[0]), 1);
    assert_int_equal(atomic_load(&statistics->sizes[3]), 1);
    bench_free(bench);
}

static void an_abandoned_request_does_not_run(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request requests[3];
    submit_one(bench, &requests[0]);
    pthread_mutex_lock(&bench->lock);
    WAIT_UNTIL(bench, bench->begun == 1);
    submit_one(bench, &requests[1]);
    submit_one(bench, &requests[2]);
    batch_abandon(&requests[1].batch);
    allow(bench, 2);
    WAIT_UNTIL(bench, bench->finished == 3); /* it is still handed back */
    assert_int_equal(bench->unit_count, 2);
    assert_ptr_equal(bench->order[1], &requests[2]);
    assert_int_equal(requests[1].batch.largest_batch, 0);
    pthread_mutex_unlock(&bench->lock);
    bench_free(bench);
}

static void one_bad_request_does_not_fail_its_neighbours(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request requests[4];
    submit_one(bench, &requests[0]);
    pthread_mutex_lock(&bench->lock);
    WAIT_UNTIL(bench, bench->begun == 1);
    for (size_t i = 1; i < 4; i++) submit_one(bench, &requests[i]);
    bench->bad = &requests[2];
    allow(bench, 100);
    WAIT_UNTIL(bench, bench->finished == 4);
    assert_int_equal(bench->begun, 1 + 1 + 3);
    assert_null(requests[1].batch.error);
    assert_non_null(requests[2].batch.error);
    assert_null(requests[3].batch.error);
    assert_int_equal(requests[3].batch.largest_batch, 1);
    error_free(requests[2].batch.error);
    pthread_mutex_unlock(&bench->lock);
    bench_free(bench);
}

static void a_large_request_does_not_hold_up_a_small_one(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct batch_unit *units = mem_new_array(1000, struct batch_unit);
    for (size_t i = 0; i < 1000; i++)
        units[i] = (struct batch_unit){.rows = 1, .length = 1 + i % 100, .payload = &units[0]};
    struct request large = {.batch = {.units = units, .unit_count = 1000}}, small;
    batcher_submit(bench->batcher, &large.batch);
    pthread_mutex_lock(&bench->lock);
    WAIT_UNTIL(bench, bench->begun == 1);
    size_t before = bench->unit_count;
    submit_one(bench, &small);
    allow(bench, 10000);
    WAIT_UNTIL(bench, bench->finished == 2);
    assert_int_equal(small.place, 1);
    assert_true(small.run_by <= before + 2 * 32);
    assert_int_equal(bench->unit_count, 1001);
    pthread_mutex_unlock(&bench->lock);
    bench_free(bench);
    free(units);
}

static void what_is_queued_at_the_end_still_runs(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request requests[3];
    for (size_t i = 0; i < 3; i++) submit_one(bench, &requests[i]);
    pthread_mutex_lock(&bench->lock);
    allow(bench, 100);
    pthread_mutex_unlock(&bench->lock);
    batcher_free(bench->batcher);
    assert_int_equal(bench->finished, 3);
    bench->batcher = NULL;
    bench_free(bench);
}

/* Many threads at once: every request comes back exactly once (and a race detector has something to see). */
static void *submit_many(void *context) {
    struct bench *bench = context;
    for (size_t i = 0; i < 200; i++) {
        struct request request;
        submit_one(bench, &request);
        pthread_mutex_lock(&bench->lock);
        WAIT_UNTIL(bench, request.back);
        pthread_mutex_unlock(&bench->lock);
    }
    return NULL;
}

static void every_request_of_many_clients_comes_back(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    pthread_t clients[8];
    bench->allowed = SIZE_MAX;
    for (size_t i = 0; i < 8; i++) pthread_create(&clients[i], NULL, submit_many, bench);
    for (size_t i = 0; i < 8; i++) pthread_join(clients[i], NULL);
    assert_int_equal(bench->finished, 8 * 200);
    assert_int_equal(bench->unit_count, 8 * 200);
    bench_free(bench);
}

/* One attempt: four run while four wait; the first four, answered, ask again at once. True when all eight then ran
 * together. The time that a round takes is what the batcher's patience is measured by, so it is made long. */
static bool halves_find_together(struct bench *bench, struct request *requests, long round_ms) {
    struct timespec round = {round_ms / 1000, round_ms % 1000 * 1000000};
    pthread_mutex_lock(&bench->lock);
    size_t finished = bench->finished, run = bench->begun;
    submit_one(bench, &requests[8]); /* holds the thread, so that four go together */
    WAIT_UNTIL(bench, bench->begun == run + 1);
    for (size_t i = 0; i < 4; i++) submit_one(bench, &requests[i]);
    allow(bench, 1);
    WAIT_UNTIL(bench, bench->begun == run + 2);
    assert_int_equal(bench->sizes[(run + 1) % GROUPS_MAXIMUM], 4);
    for (size_t i = 4; i < 8; i++) submit_one(bench, &requests[i]);
    nanosleep(&round, NULL);
    allow(bench, 1);
    WAIT_UNTIL(bench, bench->finished == finished + 5);
    for (size_t i = 0; i < 4; i++) submit_one(bench, &requests[i]);
    WAIT_UNTIL(bench, bench->begun == run + 3);
    size_t together = bench->sizes[(run + 2) % GROUPS_MAXIMUM];
    allow(bench, together == 8 ? 1 : 2);
    WAIT_UNTIL(bench, bench->finished == finished + 13);
    pthread_mutex_unlock(&bench->lock);
    return together == 8;
}

static void two_half_batches_find_together_again(void **state) {
    (void)state;
    struct bench *bench = bench_new(&limits);
    struct request requests[9];
    long round_ms = 100; /* longer where a busy machine keeps us from asking again in time */
    while (!halves_find_together(bench, requests, round_ms)) {
        round_ms *= 2;
        assert_true(round_ms < DEADLINE_S * 1000);
    }
    bench_free(bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_like_length_run_together),
        cmocka_unit_test(no_group_passes_a_ceiling_but_a_unit_that_does_alone),
        cmocka_unit_test(the_plan_is_the_cheapest),
        cmocka_unit_test(different_signatures_never_share_a_group),
        cmocka_unit_test(a_model_that_a_batch_changes_runs_every_unit_alone),
        cmocka_unit_test(a_request_alone_runs_at_once),
        cmocka_unit_test(what_waited_during_a_run_goes_together),
        cmocka_unit_test(an_abandoned_request_does_not_run),
        cmocka_unit_test(one_bad_request_does_not_fail_its_neighbours),
        cmocka_unit_test(a_large_request_does_not_hold_up_a_small_one),
        cmocka_unit_test(what_is_queued_at_the_end_still_runs),
        cmocka_unit_test(every_request_of_many_clients_comes_back),
        cmocka_unit_test(two_half_batches_find_together_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
