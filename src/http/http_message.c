#include "http/http_message-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HEAD_BUFFER_INITIAL 8192
#define HEAD_BUFFER_KEPT 16384
#define HEADERS_INITIAL 32

/* A chunked request may cost so much more than it carries: below it one-byte chunks end after some thousand. */
#define FRAMING_FREE (16 * 1024)
#define FRAMING_FACTOR 2
#define EXTENSION_MAXIMUM 1024

static int refuse(struct http_message *message, int status, const char *text) {
    message->event = HTTP_EVENT_FAULT;
    message->fault_status = status;
    message->fault_text = text;
    return HPE_USER;
}

static struct http_message *message_of(llhttp_t *parser) {
    return CONTAINER_OF(parser, struct http_message, parser);
}

/* ---- what llhttp calls --------------------------------------------------- */

static void extend(struct http_message *message, struct http_slice *slice, const char *at, size_t size) {
    if (!slice->size) slice->at = (uint32_t)(at - message->bytes);
    slice->size += (uint32_t)size;
}

static int on_url(llhttp_t *parser, const char *at, size_t size) {
    struct http_message *message = message_of(parser);
    extend(message, &message->start, at, size);
    return 0;
}

static int count_trailer(struct http_message *message, size_t size) {
    message->trailer_size += size;
    if (message->trailer_size > message->head_maximum) return refuse(message, 431, "the trailer is too large");
    return 0;
}

static void grow_headers(struct http_message *message) {
    size_t capacity = message->header_capacity ? message->header_capacity * 2 : HEADERS_INITIAL;
    message->slices = mem_resize(message->slices, capacity * 2, sizeof *message->slices);
    message->headers = mem_resize(message->headers, capacity, sizeof *message->headers);
    message->header_capacity = capacity;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size) {
    struct http_message *message = message_of(parser);
    if (!message->in_head) return count_trailer(message, size);
    if (message->in_value || !message->header_count) {
        if (message->header_count == HTTP_HEADERS_MAXIMUM) return refuse(message, 431, "there are too many headers");
        if (message->header_count == message->header_capacity) grow_headers(message);
        memset(&message->slices[message->header_count * 2], 0, 2 * sizeof *message->slices);
        message->header_count++;
        message->in_value = false;
    }
    extend(message, &message->slices[message->header_count * 2 - 2], at, size);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size) {
    struct http_message *message = message_of(parser);
    if (!message->in_head) return count_trailer(message, size);
    message->in_value = true;
    extend(message, &message->slices[message->header_count * 2 - 1], at, size);
    return 0;
}

static int on_header_value_complete(llhttp_t *parser) {
    message_of(parser)->in_value = true;
    return 0;
}

static int on_headers_complete(llhttp_t *parser) {
    struct http_message *message = message_of(parser);
    parser->upgrade = 0; /* protocols are never switched */
    if (!message->is_request && parser->status_code < 200 && parser->status_code != 101)
        return 0; /* interim: passed over */
    message->in_head = false;
    message->event = HTTP_EVENT_HEAD;
    message->content_length = -1;
    if (parser->flags & F_CONTENT_LENGTH)
        message->content_length = parser->content_length > INT64_MAX ? INT64_MAX : (int64_t)parser->content_length;
    if (message->without_body) parser->flags |= F_SKIPBODY;
    return HPE_PAUSED;
}

static int on_chunk_header(llhttp_t *parser) {
    struct http_message *message = message_of(parser);
    message->extension_size = 0;
    if (parser->content_length > message->body_maximum - message->body_size)
        return refuse(message, 413, "a chunk would make the body larger than its ceiling");
    message->body_size += parser->content_length;
    return 0;
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t size) {
    struct http_message *message = message_of(parser);
    (void)at;
    message->extension_size += size;
    if (message->extension_size > EXTENSION_MAXIMUM) return refuse(message, 400, "a chunk extension is too long");
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size) {
    struct http_message *message = message_of(parser);
    if (!size) return 0; /* llhttp was asked without bytes, only to hear that the message is complete */
    message->event = HTTP_EVENT_PIECE;
    message->piece = at;
    message->piece_size = size;
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser) {
    struct http_message *message = message_of(parser);
    if (message->in_head) { /* an interim answer: the head of the real one follows */
        message->header_count = 0;
        message->in_value = false;
        return 0;
    }
    message->event = HTTP_EVENT_END;
    return HPE_PAUSED;
}

static const llhttp_settings_t callbacks = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- life ---------------------------------------------------------------- */

void http_message_init(struct http_message *message, bool is_request, size_t head_maximum) {
    *message = (struct http_message){.is_request = is_request, .head_maximum = head_maximum};
    message->in_head = true;
    message->body_maximum = UINT64_MAX;
    llhttp_init(&message->parser, is_request ? HTTP_REQUEST : HTTP_RESPONSE, &callbacks);
}

void http_message_free(struct http_message *message) {
    free(message->bytes);
    free(message->slices);
    free(message->headers);
    *message = (struct http_message){0};
}

void http_message_restart(struct http_message *message) {
    size_t rest = http_message_unparsed(message);
    if (rest && message->parsed) memmove(message->bytes, message->bytes + message->parsed, rest);
    if (message->capacity > HEAD_BUFFER_KEPT && rest <= HEAD_BUFFER_INITIAL) {
        message->bytes = mem_resize(message->bytes, HEAD_BUFFER_INITIAL, 1);
        message->capacity = HEAD_BUFFER_INITIAL;
    }
    message->size = rest;
    message->parsed = 0;
    message->start = (struct http_slice){0};
    message->header_count = 0;
    message->body_maximum = UINT64_MAX;
    message->body_size = message->framing_size = 0;
    message->extension_size = message->trailer_size = 0;
    message->in_head = true;
    message->in_value = message->is_stopped = message->without_body = false;
    message->fault_status = 0;
    llhttp_reset(&message->parser);
}

/* ---- receiving ----------------------------------------------------------- */

char *http_message_room(struct http_message *message, size_t *ret_room) {
    if (message->size == message->capacity) {
        size_t capacity = message->capacity ? message->capacity * 2 : HEAD_BUFFER_INITIAL;
        message->bytes = mem_resize(message->bytes, capacity, 1);
        message->capacity = capacity;
    }
    *ret_room = message->capacity - message->size;
    return message->bytes + message->size;
}

void http_message_received(struct http_message *message, size_t size) {
    assert(size <= message->capacity - message->size);
    message->size += size;
}

void http_message_add(struct http_message *message, const char *bytes, size_t size) {
    while (size) {
        size_t room;
        char *at = http_message_room(message, &room);
        if (room > size) room = size;
        memcpy(at, bytes, room);
        message->size += room;
        bytes += room;
        size -= room;
    }
}

/* ---- events -------------------------------------------------------------- */

static enum http_event fault(struct http_message *message, int status, const char *text) {
    refuse(message, status, text);
    return HTTP_EVENT_FAULT;
}

static enum http_event llhttp_fault(struct http_message *message, llhttp_errno_t result) {
    if (message->event == HTTP_EVENT_FAULT) return HTTP_EVENT_FAULT; /* ours */
    if (result == HPE_INVALID_VERSION) {
        /* A broken version text is a malformed request; a number that is not ours is another version. */
        bool is_version = message->parser.reason && !strcmp(message->parser.reason, "Invalid HTTP version");
        return fault(message, is_version ? 505 : 400,
                     is_version ? "only HTTP/1.0 and HTTP/1.1 are spoken here" : "the HTTP version is malformed");
    }
    if (result == HPE_PAUSED_H2_UPGRADE) return fault(message, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    return fault(message, 400, message->parser.reason ? message->parser.reason : "the message is malformed");
}

/* The slices become strings: each ends at a byte of syntax (":" or blank or CR) that is not needed any more. */
static void finish_head(struct http_message *message) {
    for (size_t i = 0; i < message->header_count; i++) {
        struct http_slice name = message->slices[i * 2], value = message->slices[i * 2 + 1];
        char *text = message->bytes + value.at;
        while (value.size && (text[value.size - 1] == ' ' || text[value.size - 1] == '\t')) value.size--;
        message->bytes[name.at + name.size] = 0;
        if (value.size) text[value.size] = 0;
        message->headers[i] = (struct http_header){message->bytes + name.at, value.size ? text : ""};
    }
}

static enum http_event execute(struct http_message *message, const char *bytes, size_t size, size_t *ret_used) {
    message->event = HTTP_EVENT_MORE;
    if (!size && !message->is_stopped) {
        *ret_used = 0;
        return HTTP_EVENT_MORE;
    }
    if (!size) bytes = ""; /* llhttp keeps where a body begins and takes NULL for nowhere */
    if (message->is_stopped) llhttp_resume(&message->parser);
    message->is_stopped = false;
    llhttp_errno_t result = llhttp_execute(&message->parser, bytes, size);
    *ret_used = result == HPE_OK ? size : (size_t)(llhttp_get_error_pos(&message->parser) - bytes);
    if (result == HPE_PAUSED) {
        message->is_stopped = true;
        return message->event;
    }
    return result == HPE_OK ? HTTP_EVENT_MORE : llhttp_fault(message, result);
}

static enum http_event next_of_head(struct http_message *message) {
    size_t used;
    enum http_event event = execute(message, message->bytes + message->parsed, http_message_unparsed(message), &used);
    message->parsed += used;
    /* The same answer however the bytes are cut: what lies behind the ceiling is not judged by what it says. */
    bool is_above = event == HTTP_EVENT_MORE    ? message->size >= message->head_maximum
                    : event == HTTP_EVENT_FAULT ? message->parsed >= message->head_maximum
                                                : message->parsed > message->head_maximum;
    if (is_above) return fault(message, 431, "the head is larger than its ceiling");
    if (event == HTTP_EVENT_HEAD) finish_head(message);
    return event;
}

enum http_event http_message_next_of(struct http_message *message, const char *bytes, size_t size, size_t *ret_used) {
    assert(!message->in_head);
    enum http_event event = execute(message, bytes, size, ret_used);
    size_t payload = event == HTTP_EVENT_PIECE ? message->piece_size : 0;
    if (!message->is_request || !http_message_is_chunked(message) || event == HTTP_EVENT_FAULT) return event;
    message->framing_size += *ret_used - payload;
    if (message->framing_size > FRAMING_FREE + message->head_maximum + FRAMING_FACTOR * message->body_size)
        return fault(message, 400, "the chunks are so small that they cost more than they carry; send larger ones");
    return event;
}

enum http_event http_message_next(struct http_message *message) {
    if (message->in_head) return next_of_head(message);
    size_t used;
    enum http_event event =
        http_message_next_of(message, message->bytes + message->parsed, http_message_unparsed(message), &used);
    message->parsed += used;
    return event;
}

enum http_event http_message_finish(struct http_message *message) {
    message->event = HTTP_EVENT_MORE;
    if (message->is_stopped) llhttp_resume(&message->parser);
    message->is_stopped = false;
    llhttp_errno_t result = llhttp_finish(&message->parser);
    if (message->event == HTTP_EVENT_END) return HTTP_EVENT_END;
    (void)result;
    return fault(message, 400, "the message ended in its middle");
}
