/* Bytes on their way out of a stream: the kernel gets what it takes at once, only the rest is queued.
 *
 * Over TLS the queue holds plain bytes, which are encrypted when it is their turn, so that a large lent body is never
 * there twice.
 *
 * One uv_write_t is in flight at most. A failed output swallows everything; its owner learns of it from
 * http_output_send() or on_progress and closes the handle.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buffer.h"
#include "http/http_tls-internal.h"

struct http_output_node;

struct http_output {
    uv_stream_t *stream;
    struct http_tls *tls; /* the owner's; NULL: none */
    struct buffer sealed; /* encrypted bytes that are with libuv */
    uv_write_t write;
    struct http_output_node *first, *last; /* the first `in_flight` ones are with libuv */
    unsigned in_flight; /* over TLS: 1 while `sealed` is with libuv */
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
/* TLS: writes what http_tls_made() has, where nothing is on its way before it. */
void http_output_flush(struct http_output *output);
/* Nothing waits to be written. */
bool http_output_is_empty(const struct http_output *output);
/* Drops what waits; after the handle is closed, or before anything was sent. */
void http_output_clear(struct http_output *output);
