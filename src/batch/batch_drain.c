/* The writing thread: chunks that have their answers become parts, in the order of the input. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "batch/batch-internal.h"

struct drain {
    struct batch_run *run;
    int64_t expected; /* the chunk that is next */
    struct batch_part part; /* the one that is being written */
    struct batch_rejects rejects; /* of it */
    size_t rejects_left; /* that may still be kept */
    bool is_open; /* it has a file */
    uint64_t began_ms;
};

/* ---- a part's end ---- */

static void add_totals(struct batch_run *run, const struct batch_part *part) {
    pthread_mutex_lock(&run->lock);
    run->parts++;
    run->truncated += part->truncated;
    pthread_mutex_unlock(&run->lock);
}

/* What is sealed but not recorded has no name yet; what is recorded gets it now or, after a kill, at the next start. */
static int record(struct drain *drain, struct error **ret_error) {
    const struct batch_host *host = drain->run->config->host;
    struct batch_part *part = &drain->part;
    _cleanup_free_ struct batch_rejected *list = mem_new_array(drain->rejects.count + 1, struct batch_rejected);
    for (size_t i = 0; i < drain->rejects.count; i++)
        list[i] = (struct batch_rejected){drain->rejects.list[i].line, drain->rejects.list[i].stage,
                                          drain->rejects.list[i].detail};
    part->rejected_list = list;
    part->rejected_listed = drain->rejects.count;
    int result = host->record(host->context, part, ret_error);
    part->rejected_list = NULL;
    return result;
}

static int end_part(struct drain *drain, struct error **ret_error) {
    struct batch_output *output = drain->run->output;
    struct batch_part *part = &drain->part;
    part->name = part->sha256 = "";
    int result = drain->is_open ? batch_output_seal(output, part, ret_error) : 0;
    pause_point("batch_part_sealed");
    if (result < 0 || (result = record(drain, ret_error)) < 0) return result;
    pause_point("batch_part_recorded");
    if (drain->is_open && (result = batch_output_publish(output, ret_error)) < 0) return result;
    pause_point("batch_part_published");
    add_totals(drain->run, part);
    *part = (struct batch_part){.number = part->number + 1, .input_end = part->input_end, .line_end = part->line_end};
    batch_rejects_clear(&drain->rejects);
    drain->is_open = false;
    return 0;
}

/* ---- a chunk ---- */

static int by_line(const void *left, const void *right) {
    const struct batch_reject *a = left, *b = right;
    return a->line < b->line ? -1 : a->line > b->line;
}

static int take_rejects(struct drain *drain, struct batch_chunk *chunk, struct error **ret_error) {
    struct batch_rejects *rejects = &chunk->rejects;
    if (!rejects->count) return 0;
    qsort(rejects->list, rejects->count, sizeof *rejects->list, by_line);
    if (!drain->run->config->spec->skips_errors)
        return error_set(ret_error, ERROR_DEPLOYMENT,
                         "line %lld of the input was rejected: %s (with on_error skip such rows are listed and passed "
                         "over)",
                         (long long)rejects->list[0].line, rejects->list[0].detail);
    drain->part.rejected += (int64_t)rejects->count;
    for (size_t i = 0; i < rejects->count && drain->rejects_left; i++, drain->rejects_left--)
        batch_rejects_add(&drain->rejects, rejects->list[i].line, rejects->list[i].stage, rejects->list[i].detail);
    return 0;
}

static int open_part(struct drain *drain, struct error **ret_error) {
    struct batch_run *run = drain->run;
    _cleanup_buffer_ struct buffer header = {0};
    int result = batch_output_begin(run->output, drain->part.number, ret_error);
    if (result < 0) return result;
    drain->is_open = true;
    batch_answer_header(run->config->spec, &run->model, &header);
    return header.size ? batch_output_write(run->output, header.bytes, header.size, ret_error) : 0;
}

static int write_chunk(struct drain *drain, struct batch_chunk *chunk, struct error **ret_error) {
    struct batch_part *part = &drain->part;
    int result = take_rejects(drain, chunk, ret_error);
    if (result < 0) return result;
    if (!part->rows && !part->rejected) drain->began_ms = clock_monotonic_ms();
    if (chunk->output.size && !drain->is_open && (result = open_part(drain, ret_error)) < 0) return result;
    if (chunk->output.size &&
        (result = batch_output_write(drain->run->output, chunk->output.bytes, chunk->output.size, ret_error)) < 0)
        return result;
    part->rows += chunk->rows;
    part->truncated += chunk->truncated;
    part->size_bytes += (int64_t)chunk->output.size;
    part->input_end = chunk->input_end;
    part->line_end = chunk->line_end;
    bool is_full = part->rows >= (int64_t)drain->run->config->spec->part_rows || part->size_bytes >= BATCH_PART_BYTES ||
                   clock_monotonic_ms() - drain->began_ms >= BATCH_PART_MS;
    return is_full && (part->rows || part->rejected) ? end_part(drain, ret_error) : 0;
}

/* The next chunk in order, taken from the done ones; NULL when all were, or the run stops. */
static struct batch_chunk *wait_for_chunk(struct drain *drain) {
    struct batch_run *run = drain->run;
    struct batch_chunk *found = NULL;
    pthread_mutex_lock(&run->lock);
    while (!found && !run->is_stopping && !(run->has_read_all && drain->expected == run->made)) {
        struct batch_chunk **link = &run->done;
        while (*link && (*link)->number != drain->expected) link = &(*link)->next;
        if ((found = *link))
            *link = found->next;
        else
            pthread_cond_wait(&run->changed, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);
    return found;
}

static void count_written(struct batch_run *run, const struct batch_chunk *chunk) {
    pthread_mutex_lock(&run->lock);
    run->rows += chunk->rows;
    run->rejected += (int64_t)chunk->rejects.count;
    run->input_done = chunk->input_end;
    run->chunks--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static int write_all(struct drain *drain, struct error **ret_error) {
    struct batch_run *run = drain->run;
    for (struct batch_chunk *chunk; (chunk = wait_for_chunk(drain));) {
        int result = write_chunk(drain, chunk, ret_error);
        if (result >= 0) count_written(run, chunk);
        batch_chunk_free(chunk, &run->model);
        if (result < 0) return result;
        drain->expected++;
    }
    if (batch_run_is_stopping(run)) return 0;
    int result = drain->part.rows || drain->part.rejected ? end_part(drain, ret_error) : 0;
    _cleanup_buffer_ struct buffer manifest = {0};
    if (result < 0 || (result = batch_manifest(run, &manifest, ret_error)) < 0) return result;
    result = batch_output_finish(run->output, manifest.bytes, manifest.size, ret_error);
    pause_point("batch_finished");
    return result;
}

void *batch_drain(void *context) {
    struct batch_run *run = context;
    const struct batch_checkpoint *checkpoint = &run->config->checkpoint;
    int64_t listed = checkpoint->rejected < BATCH_REJECTED_LISTED ? checkpoint->rejected : BATCH_REJECTED_LISTED;
    struct drain drain = {
        .run = run,
        .rejects_left = (size_t)(BATCH_REJECTED_LISTED - listed),
        .part = {.number = checkpoint->parts, .input_end = checkpoint->input_end, .line_end = checkpoint->line_end}};
    struct error *error = NULL;
    int result = write_all(&drain, &error);
    batch_rejects_clear(&drain.rejects);
    if (result < 0) {
        batch_run_fail(run, error);
        return NULL;
    }
    pthread_mutex_lock(&run->lock);
    run->has_written_all = !run->is_stopping;
    pthread_mutex_unlock(&run->lock);
    uv_async_send(&run->woken);
    return NULL;
}
