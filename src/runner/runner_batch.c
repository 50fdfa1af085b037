#include "runner/runner_batch-internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

/* What a run costs beside its tokens, in tokens: small BERT models on one core take as long for an empty batch more as
 * for about this many tokens more. */
#define RUN_OVERHEAD_TOKENS 24
#define LINGER_SHARE 50 /* one part in fifty of the round's time: 2 % */
#define LINGER_TOTAL 3 /* times that, however many come in meanwhile */

struct batcher {
    struct batch_config config;
    struct batch_statistics statistics;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batch_request *first, **last; /* waiting or partly taken, oldest first */
    size_t waiting; /* units not yet taken */
    size_t waiting_rows; /* of those */
    size_t wanted_rows; /* so many waiting end the sleep */
    uint64_t stirred_us; /* when something last came in or went out */
    bool stopping;
    struct batch_unit **round; /* only the thread's */
    size_t *ends;
};

/* ---- planning ------------------------------------------------------------ */

static int compare_signatures(const struct batch_unit *a, const struct batch_unit *b) {
    if (a->signature_size != b->signature_size) return a->signature_size < b->signature_size ? -1 : 1;
    return a->signature_size ? memcmp(a->signature, b->signature, a->signature_size) : 0;
}

static int compare_units(const void *left, const void *right) {
    const struct batch_unit *a = *(struct batch_unit *const *)left, *b = *(struct batch_unit *const *)right;
    int order = compare_signatures(a, b);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* The cheapest cut of units[0..count), which are sorted by length and have one signature: best[i] is the cost of the
 * first i units, cuts[i] where their last group begins. */
static size_t plan_run(const struct batch_config *config, struct batch_unit **units, size_t count, size_t *ret_ends) {
    uint64_t best[count + 1];
    size_t cuts[count + 1], groups = 0;
    best[0] = 0;
    for (size_t end = 1; end <= count; end++) {
        size_t rows = 0, length = units[end - 1]->length;
        best[end] = UINT64_MAX;
        for (size_t begin = end; begin-- > 0;) {
            rows += units[begin]->rows;
            bool several = begin + 1 < end;
            if (several && (!config->together || rows > config->rows_maximum || rows * length > config->tokens_maximum))
                break;
            uint64_t cost = best[begin] + RUN_OVERHEAD_TOKENS + (uint64_t)rows * length;
            if (cost > best[end]) continue;
            best[end] = cost;
            cuts[end] = begin;
        }
    }
    for (size_t end = count; end > 0; end = cuts[end]) groups++;
    for (size_t end = count, group = groups; end > 0; end = cuts[end]) ret_ends[--group] = end;
    return groups;
}

size_t batch_plan(const struct batch_config *config, struct batch_unit **units, size_t count, size_t *ret_ends) {
    if (count > 1) qsort(units, count, sizeof *units, compare_units);
    size_t groups = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin + 1; end < count && !compare_signatures(units[begin], units[end]);) end++;
        size_t more = plan_run(config, units + begin, end - begin, ret_ends + groups);
        for (size_t i = 0; i < more; i++) ret_ends[groups + i] += begin;
        groups += more;
    }
    return groups;
}

/* ---- the queue (under the lock) ------------------------------------------ */

static void unlink_request(struct batcher *batcher, struct batch_request **link) {
    struct batch_request *request = *link;
    *link = request->next;
    if (batcher->last == &request->next) batcher->last = link;
    request->next = NULL;
}

/* Takes a round: one unit of each request in turn, oldest first, up to the ceiling of rows. Requests whose units have
 * all been taken leave the queue; abandoned ones that have nothing running leave it too, onto *ret_dropped. */
static size_t take_round(struct batcher *batcher, struct batch_request **ret_dropped, size_t *ret_rows) {
    size_t count = 0, rows = 0;
    *ret_dropped = NULL;
    while (batcher->first && rows < batcher->config.rows_maximum && count < BATCH_PLAN_MAXIMUM) {
        for (struct batch_request **link = &batcher->first; *link;) {
            struct batch_request *request = *link;
            if (atomic_load(&request->abandoned)) {
                size_t untaken = request->unit_count - request->taken;
                batcher->waiting -= untaken;
                while (request->taken < request->unit_count)
                    batcher->waiting_rows -= request->units[request->taken++].rows;
                request->unfinished -= untaken;
                unlink_request(batcher, link);
                if (request->unfinished == 0) {
                    request->next = *ret_dropped;
                    *ret_dropped = request;
                }
                continue;
            }
            if (rows >= batcher->config.rows_maximum || count == BATCH_PLAN_MAXIMUM) break;
            struct batch_unit *unit = &request->units[request->taken++];
            batcher->round[count++] = unit;
            batcher->waiting--;
            batcher->waiting_rows -= unit->rows;
            rows += unit->rows;
            if (request->taken == request->unit_count)
                unlink_request(batcher, link);
            else
                link = &request->next;
        }
    }
    atomic_store(&batcher->statistics.queued_units, batcher->waiting);
    *ret_rows = rows;
    return count;
}

/* ---- the thread ---------------------------------------------------------- */

static void finish_unit(struct batcher *batcher, struct batch_unit *unit) {
    struct batch_request *request = unit->request;
    if (--request->unfinished > 0) return;
    request->ran_us = clock_monotonic_us() - request->queued_us - request->waited_us;
    batcher->config.finished(batcher->config.context, request);
}

static void count_group(struct batch_statistics *statistics, size_t count, uint64_t run_us) {
    size_t bucket = 0;
    while (bucket + 1 < ARRAY_SIZE(statistics->sizes) && count > (size_t)1 << bucket) bucket++;
    atomic_fetch_add(&statistics->sizes[bucket], 1);
    atomic_fetch_add(&statistics->batches, 1);
    atomic_fetch_add(&statistics->units, count);
    atomic_fetch_add(&statistics->run_us, run_us);
}

static int run_group(struct batcher *batcher, struct batch_unit *const *units, size_t count, struct error **ret_error) {
    uint64_t begin = clock_monotonic_us();
    for (size_t i = 0; i < count; i++) {
        struct batch_request *request = units[i]->request;
        if (request->largest_batch == 0) request->waited_us = begin - request->queued_us;
        if (request->largest_batch < count) request->largest_batch = count;
    }
    int result = batcher->config.run(batcher->config.context, units, count, ret_error);
    count_group(&batcher->statistics, count, clock_monotonic_us() - begin);
    return result;
}

/* Whether the unit still has to run: nobody wants what belongs to an abandoned or failed request. */
static bool is_wanted(const struct batch_unit *unit) {
    return !atomic_load(&unit->request->abandoned) && !unit->request->error;
}

static void run_alone(struct batcher *batcher, struct batch_unit *unit) {
    struct error *error = NULL;
    if (is_wanted(unit)) {
        unit->request->largest_batch = 0;
        if (run_group(batcher, &unit, 1, &error) < 0) unit->request->error = error;
    }
    finish_unit(batcher, unit);
}

static void run_units(struct batcher *batcher, struct batch_unit **units, size_t count) {
    size_t wanted = 0;
    for (size_t i = 0; i < count; i++) { /* the wanted ones move to the front */
        struct batch_unit *unit = units[i];
        if (!is_wanted(unit)) continue;
        units[i] = units[wanted];
        units[wanted++] = unit;
    }
    struct error *error = NULL;
    int result = wanted ? run_group(batcher, units, wanted, &error) : 0;
    if (result < 0 && wanted == 1) units[0]->request->error = error;
    if (result < 0 && wanted > 1) {
        error_free(error);
        for (size_t i = 0; i < wanted; i++) run_alone(batcher, units[i]);
    } else {
        for (size_t i = 0; i < wanted; i++) finish_unit(batcher, units[i]);
    }
    for (size_t i = wanted; i < count; i++) finish_unit(batcher, units[i]);
}

/* Waits for `wanted_rows`, as long as something came in or went out within the last `linger_us`. Submissions below that
 * number do not wake this thread: it looks at what they left when its time is up. */
static void linger(struct batcher *batcher, uint64_t linger_us, size_t wanted_rows) {
    uint64_t begin_us = clock_monotonic_us(), now_us = begin_us, last_us = begin_us + LINGER_TOTAL * linger_us;
    batcher->stirred_us = begin_us;
    batcher->wanted_rows = wanted_rows;
    while (batcher->waiting_rows < wanted_rows && !batcher->stopping) {
        uint64_t end_us = batcher->stirred_us + linger_us;
        if (end_us > last_us) end_us = last_us;
        if (now_us >= end_us) break;
        struct timespec deadline = {(time_t)(end_us / 1000000), (long)(end_us % 1000000 * 1000)};
        pthread_cond_timedwait(&batcher->wake, &batcher->lock, &deadline);
        now_us = clock_monotonic_us();
    }
    batcher->wanted_rows = 1;
}

/* Waits until there is work; false when there is none and there will be none. */
static bool wait_for_work(struct batcher *batcher) {
    while (!batcher->first && !batcher->stopping) pthread_cond_wait(&batcher->wake, &batcher->lock);
    return batcher->first;
}

static void give_back(struct batcher *batcher, struct batch_request *dropped) {
    while (dropped) {
        struct batch_request *request = dropped;
        dropped = request->next;
        request->next = NULL;
        batcher->config.finished(batcher->config.context, request);
    }
}

static void run_round(struct batcher *batcher, size_t count) {
    size_t groups = count ? batch_plan(&batcher->config, batcher->round, count, batcher->ends) : 0;
    for (size_t i = 0, at = 0; i < groups; at = batcher->ends[i++])
        run_units(batcher, batcher->round + at, batcher->ends[i] - at);
}

static void *infer(void *context) {
    struct batcher *batcher = context;
    const struct batch_config *config = &batcher->config;
    pthread_mutex_lock(&batcher->lock);
    while (wait_for_work(batcher)) {
        struct batch_request *dropped;
        size_t rows, count = take_round(batcher, &dropped, &rows);
        pthread_mutex_unlock(&batcher->lock);
        give_back(batcher, dropped);
        uint64_t begin_us = clock_monotonic_us();
        run_round(batcher, count);
        uint64_t took_us = clock_monotonic_us() - begin_us;
        pthread_mutex_lock(&batcher->lock);
        /* Who was just answered may ask again and go with those who wait already. */
        size_t wanted_rows = rows + batcher->waiting_rows;
        if (wanted_rows > config->rows_maximum) wanted_rows = config->rows_maximum;
        if (config->together && count + batcher->waiting > 1) linger(batcher, took_us / LINGER_SHARE, wanted_rows);
    }
    pthread_mutex_unlock(&batcher->lock);
    return NULL;
}

/* ---- for others ---------------------------------------------------------- */

struct batcher *batcher_new(const struct batch_config *config) {
    struct batcher *batcher = mem_new(struct batcher);
    batcher->config = *config;
    batcher->last = &batcher->first;
    batcher->wanted_rows = 1;
    batcher->round = mem_new_array(BATCH_PLAN_MAXIMUM, struct batch_unit *);
    batcher->ends = mem_new_array(BATCH_PLAN_MAXIMUM, size_t);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&batcher->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&batcher->lock, NULL);
    if (pthread_create(&batcher->thread, NULL, infer, batcher)) abort();
    return batcher;
}

void batcher_free(struct batcher *batcher) {
    if (!batcher) return;
    pthread_mutex_lock(&batcher->lock);
    batcher->stopping = true;
    pthread_cond_signal(&batcher->wake);
    pthread_mutex_unlock(&batcher->lock);
    pthread_join(batcher->thread, NULL);
    pthread_cond_destroy(&batcher->wake);
    pthread_mutex_destroy(&batcher->lock);
    free(batcher->round);
    free(batcher->ends);
    free(batcher);
}

static int compare_longest_first(const void *left, const void *right) {
    const struct batch_unit *a = left, *b = right;
    return (a->length < b->length) - (a->length > b->length);
}

void batcher_submit(struct batcher *batcher, struct batch_request *request) {
    size_t rows = 0;
    for (size_t i = 0; i < request->unit_count; i++) {
        request->units[i].request = request;
        rows += request->units[i].rows;
    }
    /* Neighbours in the queue are then of like length, also where a request is larger than a round. */
    if (request->unit_count > 1)
        qsort(request->units, request->unit_count, sizeof *request->units, compare_longest_first);
    request->taken = request->largest_batch = 0;
    request->unfinished = request->unit_count;
    request->next = NULL;
    request->queued_us = clock_monotonic_us();
    pthread_mutex_lock(&batcher->lock);
    batcher->stirred_us = request->queued_us;
    *batcher->last = request;
    batcher->last = &request->next;
    batcher->waiting += request->unit_count;
    batcher->waiting_rows += rows;
    atomic_store(&batcher->statistics.queued_units, batcher->waiting);
    bool enough = batcher->waiting_rows >= batcher->wanted_rows;
    pthread_mutex_unlock(&batcher->lock);
    if (enough)
        pthread_cond_signal(&batcher->wake); /* after the unlock, or who wakes up would wait for the lock at once */
}

void batcher_stir(struct batcher *batcher) {
    pthread_mutex_lock(&batcher->lock);
    batcher->stirred_us = clock_monotonic_us();
    pthread_mutex_unlock(&batcher->lock);
}

const struct batch_statistics *batcher_statistics(const struct batcher *batcher) {
    return &batcher->statistics;
}
