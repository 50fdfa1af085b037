#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/runner_service-internal.h"

static int no_memory(struct error **ret_error) {
    return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for the request's texts");
}

/* Room for `ids` more ids and one more text. */
static int make_room(struct runner_texts *texts, size_t ids, struct error **ret_error) {
    if (texts->count == RUNNER_TEXTS_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "a request may have at most %d texts", RUNNER_TEXTS_MAXIMUM);
    if (texts->id_capacity - texts->id_count < ids) {
        size_t capacity =
            2 * texts->id_capacity > texts->id_count + ids ? 2 * texts->id_capacity : texts->id_count + ids;
        int64_t *larger = realloc(texts->ids, capacity * sizeof *larger);
        if (!larger) return no_memory(ret_error);
        texts->ids = larger;
        texts->id_capacity = capacity;
    }
    if (texts->count == texts->capacity) {
        texts->capacity = texts->capacity ? 2 * texts->capacity : 4;
        texts->texts = mem_resize(texts->texts, texts->capacity, sizeof *texts->texts);
    }
    return 0;
}

static void add(struct runner_texts *texts, size_t count) {
    texts->texts[texts->count++] = (struct model_text){.count = count};
    texts->id_count += count;
}

int runner_texts_add(struct runner_texts *texts, const struct model *model, const char *text, size_t size,
                     struct error **ret_error) {
    struct tokenizer_encoding encoding = {0};
    int result = make_room(texts, model->recipe->maximum_length, ret_error);
    if (result == 0) result = model_encode(model, text, size, texts->ids + texts->id_count, &encoding, ret_error);
    if (result < 0) return error_wrap(ret_error, "text %zu", texts->count);
    if (encoding.count == 0) return error_set(ret_error, ERROR_REQUEST, "text %zu has no tokens", texts->count);
    add(texts, encoding.count);
    texts->truncated += encoding.truncated;
    return 0;
}

int runner_texts_add_ids(struct runner_texts *texts, const struct model *model, yyjson_val *ids,
                         struct error **ret_error) {
    size_t count = yyjson_arr_size(ids), maximum = model->recipe->maximum_length, index, size;
    if (count == 0 || count > maximum)
        return error_set(ret_error, ERROR_REQUEST, "text %zu has %zu token ids; the model takes 1 to %zu", texts->count,
                         count, maximum);
    int result = make_room(texts, count, ret_error);
    if (result < 0) return result;
    int64_t *at = texts->ids + texts->id_count;
    uint64_t vocabulary = tokenizer_vocabulary_size(model->tokenizer);
    yyjson_val *id;
    yyjson_arr_foreach(ids, index, size, id) {
        if (!yyjson_is_uint(id) || yyjson_get_uint(id) >= vocabulary)
            return error_set(ret_error, ERROR_REQUEST, "token %zu of text %zu is not a token id from 0 to %llu", index,
                             texts->count, (unsigned long long)vocabulary - 1);
        *at++ = (int64_t)yyjson_get_uint(id);
    }
    add(texts, count);
    return 0;
}

int runner_texts_finish(struct runner_job *job, struct error **ret_error) {
    struct runner_texts *texts = &job->texts;
    size_t dimension = job->service->model->dimension;
    if (texts->count == 0) return error_set(ret_error, ERROR_REQUEST, "there is no text to embed");
    if (dimension > SIZE_MAX / sizeof(float) / RUNNER_TEXTS_MAXIMUM) return no_memory(ret_error);
    texts->vectors = malloc(texts->count * dimension * sizeof *texts->vectors);
    job->units = calloc(texts->count, sizeof *job->units);
    if (!texts->vectors || !job->units) return no_memory(ret_error);
    const int64_t *ids = texts->ids;
    for (size_t i = 0; i < texts->count; i++) {
        struct model_text *text = &texts->texts[i];
        text->ids = ids;
        text->vector = texts->vectors + i * dimension;
        ids += text->count;
        job->units[i] = (struct batch_unit){.rows = 1, .length = text->count, .payload = text};
    }
    job->batch.units = job->units;
    job->batch.unit_count = texts->count;
    return 0;
}

size_t runner_texts_tokens(const struct runner_texts *texts) {
    return texts->id_count;
}

void runner_texts_clear(struct runner_texts *texts) {
    free(texts->ids);
    free(texts->texts);
    free(texts->vectors);
    *texts = (struct runner_texts){0};
}
