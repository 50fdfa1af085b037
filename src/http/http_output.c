#include "http/http_output-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PARTS_MAXIMUM 4
#define IN_FLIGHT_MAXIMUM 16
#define NODE_ROOM (16 * 1024)
#define SEAL_AT_ONCE (64 * 1024) /* what is encrypted before the kernel is asked whether it takes it */

struct http_output_node {
    struct http_output_node *next;
    const char *bytes;
    size_t size;
    size_t room; /* more bytes that `own` could take */
    bool is_in_flight; /* with libuv, or encrypted in part */
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
    buffer_clear(&output->sealed);
    output->in_flight = 0;
}

bool http_output_is_empty(const struct http_output *output) {
    return !output->first && !output->in_flight;
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

/* ---- TLS ----------------------------------------------------------------- */

static void on_sealed_written(uv_write_t *write, int status) {
    struct http_output *output = write->data;
    output->waiting -= output->sealed.size;
    output->sealed.size = 0;
    output->in_flight = 0;
    if (status < 0 && !output->failure) output->failure = status;
    if (status == UV_ECANCELED) return;
    http_output_flush(output);
    output->on_progress(output);
}

/* Gives the kernel what is encrypted; what it does not take is left to libuv. */
static void write_made(struct http_output *output) {
    struct buffer *made = http_tls_made(output->tls);
    uv_buf_t part = {.base = made->bytes, .len = made->size};
    int written = uv_try_write(output->stream, &part, 1);
    if (written < 0 && written != UV_EAGAIN) {
        output->failure = written;
        return;
    }
    buffer_consume(made, written < 0 ? 0 : (size_t)written);
    if (!made->size) return;
    struct buffer spare = output->sealed;
    output->sealed = *made;
    *made = (struct buffer){.bytes = spare.bytes, .capacity = spare.capacity, .maximum = output->sealed.maximum};
    part = (uv_buf_t){.base = output->sealed.bytes, .len = output->sealed.size};
    output->write.data = output;
    output->in_flight = 1;
    output->waiting += output->sealed.size;
    int result = uv_write(&output->write, output->stream, &part, 1, on_sealed_written);
    if (result == 0) return;
    output->in_flight = 0;
    output->failure = result;
}

/* Encrypts a part of what waits. */
static void seal_waiting(struct http_output *output) {
    for (size_t room = SEAL_AT_ONCE; output->first && room && !output->failure;) {
        struct http_output_node *node = output->first;
        uv_buf_t part = {.base = (char *)node->bytes, .len = node->size < room ? node->size : room};
        if (!http_tls_seal(output->tls, &part, 1)) output->failure = UV_EPROTO;
        node->bytes += part.len;
        node->size -= part.len;
        node->is_in_flight = true;
        output->waiting -= part.len;
        room -= part.len;
        if (!node->size) pop(output);
    }
}

void http_output_flush(struct http_output *output) {
    while (!output->in_flight && !output->failure) {
        if (!http_tls_made(output->tls)->size) seal_waiting(output);
        if (output->failure || !http_tls_made(output->tls)->size) return;
        write_made(output);
    }
}

/* How much of the parts is encrypted and out of the way: all of short ones, of long ones what the kernel takes. */
static size_t seal_at_once(struct http_output *output, const uv_buf_t *parts, unsigned count) {
    if (!http_output_is_empty(output)) return 0;
    size_t total = 0, done = 0;
    for (unsigned i = 0; i < count; i++) total += parts[i].len;
    if (total <= SEAL_AT_ONCE) {
        if (!http_tls_seal(output->tls, parts, count)) output->failure = UV_EPROTO;
        http_output_flush(output);
        return total;
    }
    for (unsigned i = 0; i < count; i++) {
        for (size_t at = 0; at < parts[i].len; at += SEAL_AT_ONCE) {
            if (output->in_flight || output->failure) return done;
            size_t rest = parts[i].len - at;
            const uv_buf_t piece = {.base = parts[i].base + at, .len = rest < SEAL_AT_ONCE ? rest : SEAL_AT_ONCE};
            if (!http_tls_seal(output->tls, &piece, 1)) output->failure = UV_EPROTO;
            http_output_flush(output);
            done += piece.len;
        }
    }
    return done;
}

/* ---- sending ------------------------------------------------------------- */

void http_output_send(struct http_output *output, const uv_buf_t *parts, unsigned count, const struct http_lent *lent) {
    assert(count <= PARTS_MAXIMUM);
    size_t sent = output->failure ? 0
                  : output->tls   ? seal_at_once(output, parts, count)
                                  : send_at_once(output, parts, count);
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
    if (!output->failure && output->first && !output->in_flight && !output->tls) write_waiting(output);
}
