/* One HTTP message after the other out of a stream of bytes: llhttp, strict, with every ceiling.
 *
 * The reader asks for events. Bytes of a head are read straight into the message's own buffer (room, received) and stay
 * there, so that the header slices need no copies; they are valid until http_message_restart(). Bytes of a body may
 * come from anywhere. llhttp is stopped at every event, so that nothing of ours ever runs inside it.
 */
#pragma once
#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http.h"

#define HTTP_HEADERS_MAXIMUM 256

enum http_event {
    HTTP_EVENT_MORE, /* all given bytes are used up */
    HTTP_EVENT_HEAD, /* the head is complete; look at it, then go on */
    HTTP_EVENT_PIECE, /* piece[0..piece_size) of the body */
    HTTP_EVENT_END, /* the message is complete; http_message_restart() before the next */
    HTTP_EVENT_FAULT, /* fault_status, fault_text; nothing can be read any more */
};

struct http_slice {
    uint32_t at, size;
};

struct http_message {
    llhttp_t parser;
    char *bytes; /* the head and what was received with it */
    size_t size, parsed, capacity;
    size_t head_maximum;
    struct http_slice start; /* the request target */
    struct http_slice *slices; /* name and value of each header, two by two */
    struct http_header *headers;
    size_t header_count, header_capacity;
    int64_t content_length; /* from the head's end; -1: none was sent */
    uint64_t body_maximum; /* chunks may not announce more */
    uint64_t body_size; /* announced by chunks so far, or received */
    uint64_t framing_size; /* what chunked coding cost so far */
    size_t extension_size; /* of this chunk */
    size_t trailer_size;
    const char *piece;
    size_t piece_size;
    enum http_event event; /* what the last callback found */
    int fault_status;
    const char *fault_text;
    bool in_head, in_value, is_stopped;
    bool is_request;
    bool without_body; /* an answer to HEAD */
};

void http_message_init(struct http_message *message, bool is_request, size_t head_maximum);
void http_message_free(struct http_message *message);

/* Where the next bytes of a head go: at least one byte unless the head is at its ceiling, which http_message_next() has
 * told as a fault before. */
char *http_message_room(struct http_message *message, size_t *ret_room);
void http_message_received(struct http_message *message, size_t size);
/* The next event out of what was received; HTTP_EVENT_MORE once it is used up. */
enum http_event http_message_next(struct http_message *message);
/* The next event out of bytes[0..size), of which *ret_used were used. Only after the head, and with received bytes used
 * up. */
enum http_event http_message_next_of(struct http_message *message, const char *bytes, size_t size, size_t *ret_used);
/* The end of the stream: HTTP_EVENT_END when that ends the message, else HTTP_EVENT_FAULT. */
enum http_event http_message_finish(struct http_message *message);

/* Ready for the next message; keeps received bytes behind this one. */
void http_message_restart(struct http_message *message);
/* Copies bytes behind the received ones (a head that began in another buffer; the caller bounds them). */
void http_message_add(struct http_message *message, const char *bytes, size_t size);

static inline size_t http_message_unparsed(const struct http_message *message) {
    return message->size - message->parsed;
}
static inline bool http_message_is_chunked(const struct http_message *message) {
    return message->parser.flags & F_CHUNKED;
}
