/* What the files of http/ share: lists, work put off to the loop, addresses, heads on their way out.
 *
 * The parts, from the bottom: http_message (llhttp, one message after the other), http_output (bytes on their way out),
 * http_connection (a server's connection as a machine of named steps), http_peer (a client's connection). Everything is
 * used on the thread of its loop only.
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "http/http.h"

/* How much may wait to be written before http_send() and http_call_send() say "full". */
#define HTTP_OUTPUT_FULL (256 * 1024)
/* Below it there is room again. */
#define HTTP_OUTPUT_ROOM (64 * 1024)
/* What one read takes outside of a head; shared by all connections of a server or pool. */
#define HTTP_SCRATCH_SIZE (64 * 1024)

/* ---- lists: a ring with a head; an unlinked node points at itself ---- */

struct http_link {
    struct http_link *previous, *next;
};

static inline void http_link_init(struct http_link *link) {
    link->previous = link->next = link;
}
static inline bool http_link_is_alone(const struct http_link *link) {
    return link->next == link;
}
static inline void http_link_remove(struct http_link *link) {
    link->previous->next = link->next;
    link->next->previous = link->previous;
    http_link_init(link);
}
/* Moves link behind `place`; it may stand in another list before. */
static inline void http_link_put_after(struct http_link *link, struct http_link *place) {
    http_link_remove(link);
    link->next = place->next;
    link->previous = place;
    place->next->previous = link;
    place->next = link;
}

/* ---- work that must not happen inside the caller's call: done in the loop's next turn ---- */

struct http_later {
    uv_idle_t idle;
    struct http_link waiting;
};
struct http_later_item {
    struct http_link link;
    void (*run)(struct http_later_item *item);
};
void http_later_init(struct http_later *later, uv_loop_t *loop);
void http_later_add(struct http_later *later, struct http_later_item *item); /* once is enough */
void http_later_remove(struct http_later *later, struct http_later_item *item);

/* ---- addresses ---- */

struct http_address {
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    };
};
/* "unix:/path", "127.0.0.1:8400", "[::1]:8400" or "name:8400" (asks the resolver, so blocking). CONFIGURATION error. */
int http_address_parse(const char *text, struct http_address *ret_address, struct error **ret_error);

/* ---- a connection's handle: TCP or unix ---- */

union http_handle {
    uv_handle_t any;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

/* A process that writes to sockets must not die of SIGPIPE; libuv leaves that to it. Ignores it unless it is handled.
 */
void http_ignore_broken_pipes(void);

/* ---- heads on their way out ---- */

bool http_is_token(const char *text);
/* At most so many bytes does http_put_header() write. */
size_t http_header_size(const struct http_header *header);
/* Writes "Name: value\r\n". Bytes that no value may have (RFC 9110 5.5) become blanks, so that nothing can be injected;
 * a header whose name is no token is left out. Returns the end. */
char *http_put_header(char *at, const struct http_header *header);
char *http_put(char *at, const char *bytes, size_t size);
char *http_put_text(char *at, const char *text);
char *http_put_number(char *at, uint64_t number);
/* A chunk's first line; at most 18 bytes. */
char *http_put_chunk_size(char *at, size_t size);

/* The problem document for an error; caller frees. */
char *http_problem_document(const struct error *error, size_t *ret_size);
