/* The client side: pooled keep-alive connections to one address (unix socket or TCP), streaming both ways.
 *
 * Used by the gateway towards runners and the controller. All on the loop's thread. A call is made with http_call();
 * its callbacks are on_head, then on_body…, then on_end exactly once, or on_failed exactly once instead of on_end (also
 * in the middle of a body). After either the call is gone. http_call_cancel() ends it without any further callback.
 */
#pragma once
#include <uv.h>

#include "http/http.h"

struct http_pool; /* connections to one address */
struct http_call; /* one request and its answer */

struct http_pool_config {
    uv_loop_t *loop;
    const char *address; /* "unix:/path" or "127.0.0.1:9000"; copied */
    size_t idle_maximum; /* idle connections that are kept */
    uint64_t connect_timeout_ms, answer_timeout_ms; /* answer: from the request's end to the first byte of the answer */
    uint64_t body_timeout_ms; /* between two pieces of the answer's body */
    size_t head_maximum;
};

struct http_answer {
    int status;
    const struct http_header *headers; /* valid during on_head */
    size_t header_count;
    int64_t content_length; /* -1: unknown until its end */
};

struct http_failure {
    bool answer_begun; /* a byte of the answer was received */
    bool sent; /* a byte of the request was given to the kernel */
    bool timed_out;
    const struct error *error; /* UNAVAILABLE, names the address; valid during on_failed */
};

struct http_call_handler {
    void (*on_head)(struct http_call *call, const struct http_answer *answer, void *context);
    void (*on_body)(struct http_call *call, const char *bytes, size_t size, void *context);
    void (*on_end)(struct http_call *call, void *context);
    void (*on_failed)(struct http_call *call, const struct http_failure *failure, void *context);
    void (*on_writable)(struct http_call *call, void *context); /* after http_call_send() said "full" */
};

struct http_pool *http_pool_new(const struct http_pool_config *config);
/* No new calls; idle connections close; running calls go on to their end, then the pool frees itself. */
void http_pool_release(struct http_pool *pool);
size_t http_pool_in_use(const struct http_pool *pool);

struct http_call_request {
    const char *method, *target; /* target as it goes on the wire */
    const char *host; /* the Host header */
    const struct http_header
        *headers; /* without Host, Content-Length, Transfer-Encoding, Connection: those are added */
    size_t header_count;
    const char *body; /* the whole body when it is at hand (not copied: lives until the call is gone), else NULL */
    size_t body_size;
    int64_t content_length; /* of a streamed body; -1: chunked; ignored when `body` is there */
    bool has_body; /* false: no body, no Content-Length (GET) */
};

/* Starts at once on an idle connection, else on a new one. A failure is told by on_failed, never from inside this call.
 * A request whose body is at hand and that met a kept-alive connection which its peer had just closed is sent again on
 * a new one, unseen: when it is idempotent (RFC 9110 9.2.2), or when the kernel says that the peer threw it away
 * without having read all of it. A POST that the peer may have read before it died is never sent twice. */
struct http_call *http_call(struct http_pool *pool, const struct http_call_request *request,
                            const struct http_call_handler *handler, void *context);
/* A streamed body. False: more than 256 KiB wait; go on after on_writable. */
bool http_call_send(struct http_call *call, const char *bytes, size_t size);
void http_call_end_body(struct http_call *call);
/* Back-pressure on the answer. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
void http_call_cancel(struct http_call *call);
