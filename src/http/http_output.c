#include "http/http_output-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PARTS_MAXIMUM 4
#define IN_FLIGHT_MAXIMUM 16
#define NODE_ROOM (16 * 1024)

struct http_output_node {
    struct http_output_node *next;
    const char *bytes;
    size_t size;
    size_t room; /* more bytes that `own` could take */
    bool is_in_flight;
    struct http_lent lent;
    char own[];
};

void http_output_init(struct http_output *output, uv_stream_t *stream,
                      void (*on_progress)(struct http_output *output)) {
    *output = (struct http_output){.stream = stream, .on_progress = on_progress};
}

static void free_node(struct http_output_node *node) {
    if (node->lent.free_memory) node->lent.free_memory(node->lent.memory);
    free(node);
}

static void pop(struct http_output *output) {
    struct http_output_node *node = output->first;
    output->first = node->next;
    if (!output->first) output->last = NULL;
    output->waiting -= node->size;
    free_node(node);
}

void http_output_clear(struct http_output *output) {
    while (output->first) pop(output);
    output->in_flight = 0;
}

static void push(struct http_output *output, struct http_output_node *node) {
    if (output->last)
        output->last->next = node;
    else
        output->first = node;
    output->last = node;
    output->waiting += node->size;
}

/* Many small sends share a node, so that a slow reader does not cost more memory than it is sent. */
static void queue_copy(struct http_output *output, const char *bytes, size_t size) {
    struct http_output_node *last = output->last;
    if (last && !last->is_in_flight && last->room >= size) {
        memcpy(last->own + last->size, bytes, size);
        last->size += size;
        last->room -= size;
        output->waiting += size;
        return;
    }
    size_t room = size > NODE_ROOM ? size : NODE_ROOM;
    struct http_output_node *node = mem_alloc(sizeof *node + room);
    *node = (struct http_output_node){.bytes = node->own, .size = size, .room = room - size};
    memcpy(node->own, bytes, size);
    push(output, node);
}

static void queue_lent(struct http_output *output, const char *bytes, size_t size, const struct http_lent *lent) {
    struct http_output_node *node = mem_alloc(sizeof *node);
    *node = (struct http_output_node){.bytes = bytes, .size = size, .lent = *lent};
    push(output, node);
}

static void write_waiting(struct http_output *output);

static void on_written(uv_write_t *write, int status) {
    struct http_output *output = write->data;
    for (unsigned done = output->in_flight; done; done--) pop(output);
    output->in_flight = 0;
    if (status < 0 && !output->failure) output->failure = status;
    if (status == UV_ECANCELED) return; /* the handle is being closed: nobody waits for it */
    if (!output->failure && output->first) write_waiting(output);
    output->on_progress(output);
}

static void write_waiting(struct http_output *output) {
    uv_buf_t parts[IN_FLIGHT_MAXIMUM];
    unsigned count = 0;
    for (struct http_output_node *node = output->first; node && count < IN_FLIGHT_MAXIMUM; node = node->next) {
        parts[count++] = (uv_buf_t){.base = (char *)node->bytes, .len = node->size};
        node->is_in_flight = true;
    }
    output->write.data = output;
    output->in_flight = count;
    int result = uv_write(&output->write, output->stream, parts, count, on_written);
    if (result < 0) {
        output->in_flight = 0;
        output->failure = result;
    }
}

/* How much of the parts the kernel took. */
static size_t send_at_once(struct http_output *output, const uv_buf_t *parts, unsigned count) {
    if (output->first) return 0;
    int result = uv_try_write(output->stream, parts, count);
    if (result < 0 && result != UV_EAGAIN) output->failure = result;
    return result < 0 ? 0 : (size_t)result;
}

void http_output_send(struct http_output *output, const uv_buf_t *parts, unsigned count, const struct http_lent *lent) {
    assert(count <= PARTS_MAXIMUM);
    size_t sent = output->failure ? 0 : send_at_once(output, parts, count);
    bool is_lent_queued = false;
    for (unsigned i = 0; i < count && !output->failure; i++) {
        size_t skip = sent < parts[i].len ? sent : parts[i].len;
        sent -= skip;
        if (skip == parts[i].len) continue;
        if (lent && i == count - 1) {
            queue_lent(output, parts[i].base + skip, parts[i].len - skip, lent);
            is_lent_queued = true;
        } else {
            queue_copy(output, parts[i].base + skip, parts[i].len - skip);
        }
    }
    if (lent && !is_lent_queued && lent->free_memory) lent->free_memory(lent->memory);
    if (!output->failure && output->first && !output->in_flight) write_waiting(output);
}
