/* A job from its checkpoint to its end: the caller's thread runs the loop between the one that reads and the one that
 * writes. The first error of any of the three ends all. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_escape.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define TICK_MS 50 /* looks at `interrupted`, and at which replicas are up */
#define TELL_MS 500
#define RATE_WEIGHT 0.3 /* of the newest half second */
#define STACK_BYTES (1u << 20)

/* ---- its end ---- */

void batch_run_fail(struct batch_run *run, struct error *error) {
    pthread_mutex_lock(&run->lock);
    if (run->error)
        error_free(error);
    else
        run->error = error;
    run->is_stopping = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    uv_async_send(&run->woken);
}

bool batch_run_is_stopping(struct batch_run *run) {
    pthread_mutex_lock(&run->lock);
    bool is_stopping = run->is_stopping;
    pthread_mutex_unlock(&run->lock);
    return is_stopping;
}

static bool is_over(struct batch_run *run) {
    pthread_mutex_lock(&run->lock);
    bool is_over = run->is_stopping || run->has_written_all;
    pthread_mutex_unlock(&run->lock);
    return is_over;
}

void batch_run_chunk_done(struct batch_run *run, struct batch_chunk *chunk) {
    pthread_mutex_lock(&run->lock);
    chunk->next = run->done;
    run->done = chunk;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* ---- progress ---- */

static int64_t reckon_total(const struct batch_run *run, int64_t rows) {
    double size = (double)batch_source_size(run->source), done = (double)run->input_done;
    return done > 0 ? (int64_t)((double)rows * (size > done ? size / done : 1)) : 0;
}

static void tell(struct batch_run *run, bool is_end) {
    const struct batch_host *host = run->config->host;
    const struct batch_checkpoint *checkpoint = &run->config->checkpoint;
    struct batch_progress *progress = &run->progress;
    uint64_t now = clock_monotonic_ms(), took = now - run->told_ms;
    if (!is_end && took < TELL_MS) return;
    int64_t before = progress->rows;
    pthread_mutex_lock(&run->lock);
    progress->rows = checkpoint->rows + run->rows;
    progress->rejected = checkpoint->rejected + run->rejected;
    progress->total = reckon_total(run, progress->rows + progress->rejected);
    pthread_mutex_unlock(&run->lock);
    double rate = (double)(progress->rows - before) * 1000 / (double)(took ? took : 1);
    bool is_first = progress->rate <= 0;
    if (took >= TELL_MS / 2 || is_first)
        progress->rate = is_first ? rate : progress->rate + RATE_WEIGHT * (rate - progress->rate);
    if (is_end) progress->total = progress->rows + progress->rejected;
    run->told_ms = now;
    host->progress(host->context, progress);
}

/* ---- the loop ---- */

static void look(struct batch_run *run) {
    struct error *error = NULL;
    if (atomic_load(run->config->host->interrupted)) {
        error_set(&error, ERROR_UNAVAILABLE, "it was interrupted");
        batch_run_fail(run, error);
    } else if (batch_calls_look(run, &error) < 0) {
        batch_run_fail(run, error);
    }
}

static void on_tick(uv_timer_t *timer) {
    struct batch_run *run = timer->data;
    look(run);
    if (is_over(run)) {
        uv_stop(&run->loop);
        return;
    }
    batch_calls_send(run);
    tell(run, false);
}

static void on_woken(uv_async_t *async) {
    struct batch_run *run = async->data;
    if (is_over(run))
        uv_stop(&run->loop);
    else
        batch_calls_send(run);
}

static int open_loop(struct batch_run *run, struct error **ret_error) {
    int failed = uv_loop_init(&run->loop);
    if (failed) return error_set(ret_error, ERROR_UNAVAILABLE, "make a loop: %s", uv_strerror(failed));
    uv_timer_init(&run->loop, &run->tick);
    uv_async_init(&run->loop, &run->woken, on_woken);
    run->tick.data = run->woken.data = run;
    uv_timer_start(&run->tick, on_tick, 0, TICK_MS);
    return 0;
}

static void close_loop(struct batch_run *run) {
    uv_close((uv_handle_t *)&run->tick, NULL);
    uv_close((uv_handle_t *)&run->woken, NULL);
    uv_run(&run->loop, UV_RUN_DEFAULT);
    uv_loop_close(&run->loop);
}

static int start_thread(pthread_t *thread, void *(*body)(void *), struct batch_run *run) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int failed = pthread_create(thread, &attributes, body, run);
    pthread_attr_destroy(&attributes);
    if (!failed) return 0;
    struct error *error = NULL;
    error_set_errno(&error, ERROR_UNAVAILABLE, failed, "start a thread of a batch job");
    error_mark_transient(&error);
    batch_run_fail(run, error);
    return -1;
}

static void work(struct batch_run *run) {
    pthread_t feed, drain;
    bool feeds = start_thread(&feed, batch_feed, run) == 0;
    bool drains = feeds && start_thread(&drain, batch_drain, run) == 0;
    uv_run(&run->loop, UV_RUN_DEFAULT);
    pthread_mutex_lock(&run->lock);
    run->is_stopping = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    if (feeds) pthread_join(feed, NULL);
    if (drains) pthread_join(drain, NULL);
    batch_calls_cancel(run);
}

/* ---- opening and closing ---- */

static void free_chunks(struct batch_run *run, struct batch_chunk *chunks) {
    for (struct batch_chunk *next; chunks; chunks = next) {
        next = chunks->next;
        batch_chunk_free(chunks, &run->model);
    }
}

static void clear(struct batch_run *run) {
    free_chunks(run, run->ready);
    free_chunks(run, run->again);
    free_chunks(run, run->done);
    batch_output_close(run->output);
    batch_source_close(run->source);
    batch_model_clear(&run->model);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
}

static int open_parts(struct batch_run *run, struct error **ret_error) {
    const struct batch_config *config = run->config;
    int result = batch_model_read(config->facts_json, config->spec, &run->model, ret_error);
    if (result < 0 || (result = batch_source_open(config, &run->source, ret_error)) < 0) return result;
    if (!config->checkpoint.input_identity &&
        (result = config->host->begin(config->host->context, batch_source_identity(run->source), ret_error)) < 0)
        return result;
    return batch_output_open(config, &run->output, ret_error);
}

static int run_opened(struct batch_run *run, struct error **ret_error) {
    run->ready_end = &run->ready;
    run->chunk_maximum = 8;
    run->input_done = run->config->checkpoint.input_end;
    run->progress.rows = run->config->checkpoint.rows;
    run->told_ms = clock_monotonic_ms();
    int result = open_loop(run, ret_error);
    if (result < 0) return result;
    work(run);
    close_loop(run);
    if (run->has_written_all) {
        error_free(run->error); /* of the very end: all is written */
        tell(run, true);
        return 0;
    }
    struct error *error = run->error;
    if (!error) error_set(&error, ERROR_UNAVAILABLE, "it was interrupted");
    result = -(int)error->class;
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

int batch_run(const struct batch_config *config, struct batch_totals *ret_totals, struct error **ret_error) {
    struct batch_run run = {.config = config};
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.changed, NULL);
    int result = open_parts(&run, ret_error);
    if (result >= 0) result = run_opened(&run, ret_error);
    if (result >= 0)
        *ret_totals = (struct batch_totals){.rows = config->checkpoint.rows + run.rows,
                                            .rejected = config->checkpoint.rejected + run.rejected,
                                            .truncated = run.truncated,
                                            .parts = config->checkpoint.parts + run.parts};
    clear(&run);
    return result;
}

/* ---- _SUCCESS ---- */

struct listing {
    struct buffer *out;
    int64_t rows, rejected, truncated, parts;
};

static void add_text(struct buffer *out, const char *before, const char *text) {
    buffer_append_text(out, before);
    buffer_append(out, "\"", 1);
    json_escape(out, text, strlen(text));
    buffer_append(out, "\"", 1);
}

static int list_part(const struct batch_part *part, void *to) {
    struct listing *listing = to;
    listing->rows += part->rows;
    listing->rejected += part->rejected;
    listing->truncated += part->truncated;
    if (!*part->name) return 0;
    add_text(listing->out, listing->parts++ ? ",\n {\"name\":" : "\n {\"name\":", part->name);
    buffer_append_format(listing->out, ",\"rows\":%lld,\"size_bytes\":%lld", (long long)part->rows,
                         (long long)part->size_bytes);
    add_text(listing->out, ",\"sha256\":", part->sha256);
    buffer_append(listing->out, "}", 1);
    return 0;
}

int batch_manifest(struct batch_run *run, struct buffer *out, struct error **ret_error) {
    const struct batch_config *config = run->config;
    struct listing listing = {.out = out};
    add_text(out, "{\"job_id\":", config->job_id);
    if (config->model) add_text(out, ",\"model\":", config->model);
    add_text(out, ",\n\"input_uri\":", config->spec->input_uri);
    add_text(out, ",\"input\":", batch_source_identity(run->source));
    add_text(out, ",\n\"format\":", config->spec->format == BATCH_CSV ? "csv" : "ndjson");
    buffer_append_text(out, ",\"parts\":[");
    int result = config->host->list(config->host->context, list_part, &listing, ret_error);
    if (result < 0) return result;
    buffer_append_format(out, "],\n\"rows\":%lld,\"rejected\":%lld,\"truncated\":%lld}\n", (long long)listing.rows,
                         (long long)listing.rejected, (long long)listing.truncated);
    return 0;
}
