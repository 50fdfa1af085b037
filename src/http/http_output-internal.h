/* Bytes on their way out of a stream: the kernel gets what it takes at once, only the rest is queued.
 *
 * One uv_write_t is in flight at most. A failed output swallows everything; its owner learns of it from
 * http_output_send() or on_progress and closes the handle.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct http_output_node;

struct http_output {
    uv_stream_t *stream;
    uv_write_t write;
    struct http_output_node *first, *last; /* the first `in_flight` ones are with libuv */
    unsigned in_flight;
    size_t waiting; /* bytes */
    int failure; /* a libuv error */
    void (*on_progress)(struct http_output *output); /* something was written, or it failed */
};

/* Who owns the last part of a send: it is not copied, and free_memory(memory) is called once it is written or dropped.
 */
struct http_lent {
    void (*free_memory)(void *memory); /* NULL: the owner keeps it until the output is empty or cleared */
    void *memory;
};

void http_output_init(struct http_output *output, uv_stream_t *stream, void (*on_progress)(struct http_output *output));
/* Copies what the kernel does not take at once, but not the last part when `lent` says so. */
void http_output_send(struct http_output *output, const uv_buf_t *parts, unsigned count, const struct http_lent *lent);
/* Drops what waits; after the handle is closed, or before anything was sent. */
void http_output_clear(struct http_output *output);
