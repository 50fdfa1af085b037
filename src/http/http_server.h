/* The server side: strict HTTP/1.1 on one or more listening sockets (TCP or unix), keep-alive, one request at a time on
 * a connection (a pipelined one waits).
 *
 * Life of a request: head parsed → on_head (the handler chooses how the body comes) → body → on_request → the handler
 * answers, then or later, on the loop's thread → http_respond() or http_begin() … http_end() ends it. The handler owns
 * the request from on_head until it has ended it, also when the client has gone meanwhile (on_gone tells; answering is
 * then a no-op that frees). After the ending call the request must not be touched. Handlers are called from the loop
 * only, never from inside one of the calls below. The process ignores SIGPIPE from http_server_new() on.
 *
 * Refused before the handler sees it, with a problem+json answer and the connection closed: what llhttp (strict)
 * rejects, Host missing, doubled or malformed (400), Content-Length with Transfer-Encoding or several lengths (400),
 * obs-fold (400), an unsupported transfer coding (501), head above its ceiling (431), Content-Length or a chunk size
 * above the body ceiling at once (413), a head or body that comes too slowly (408), HTTP versions but 1.0 and 1.1
 * (505). `Expect: 100-continue` is answered once the handler wants the body. After an error answer with unread body the
 * connection is closed with a short lingering read, so that the client gets to see the answer.
 */
#pragma once
#include <uv.h>

#include "http/http.h"
#include "http/http_tls.h"

enum http_body_mode {
    HTTP_BODY_WHOLE, /* on_request comes when all of it is in request->body */
    HTTP_BODY_STREAM, /* on_request comes at once, on_body for each piece, on_body_end after the last (also when there
                         is no body); needs on_body, on_body_end and on_gone */
};

struct http_request {
    const char *method; /* "GET" */
    const char *target; /* as sent, origin form: "/v1/tasks?limit=3" */
    const char *path; /* the target up to "?", still percent-encoded */
    const char *query; /* behind the "?", or "" */
    const struct http_header *headers;
    size_t header_count;
    bool has_body; /* a Content-Length above 0 or a chunked body */
    int64_t content_length; /* -1: chunked */
    const char *body; /* HTTP_BODY_WHOLE: valid from on_request until the request is ended */
    size_t body_size;
    size_t body_maximum; /* the handler may set it in on_head; begins with the limits' */
    uint64_t received_us; /* clock_monotonic_us() when the head was complete */
    const char *peer; /* "127.0.0.1:4711" or "unix" */
    bool is_old; /* HTTP/1.0 */
    bool tls; /* it came over TLS */
    bool local; /* it came by http_server_listen_local(): a process of the service's own user or of root sent it */
    void *context; /* the handler's own */
};

struct http_handler {
    /* The head is there. The handler may answer at once (the body, if any, is then thrown away). */
    enum http_body_mode (*on_head)(struct http_request *request, void *context);
    void (*on_request)(struct http_request *request, void *context);
    void (*on_body)(struct http_request *request, const char *bytes, size_t size, void *context); /* STREAM only */
    void (*on_body_end)(struct http_request *request, void *context); /* STREAM only */
    /* The client went away before the answer's end, or its body was refused by the server: stop working on it soon, and
     * still end it. It may come before on_request (a whole body that broke off, came too slowly or was too large): such
     * a request is over when on_gone returns, ended or not. A client that only stopped sending still gets an answer
     * that is given nevertheless. Optional for handlers that do not stream. */
    void (*on_gone)(struct http_request *request, void *context);
    /* After http_send() said "full": there is room again (or, behind on_gone, no need for it). Optional for handlers
     * that do not stream. */
    void (*on_writable)(struct http_request *request, void *context);
    /* The server itself refuses a request whose head it has offered (its body is too large, too slow, malformed): the
     * body of that answer as the request's clients expect it, freed by the server. Optional: without it problem+json.
     */
    char *(*write_refusal)(const struct http_request *request, const struct error *error, const char **ret_content_type,
                           size_t *ret_size, void *context);
};

struct http_limits {
    size_t head_maximum, body_maximum; /* bytes */
    size_t connections_maximum; /* the longest idle one gives way; when all are busy, clients wait in the backlog */
    uint64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms; /* 0: none */
};

/* Taken from the struct at http_server_new(); context pointers must outlive the server. */
struct http_server_config {
    uv_loop_t *loop;
    struct http_limits limits;
    const struct http_handler *handler;
    void *context;
    const char *server_name; /* the Server header, or NULL for none */
};

struct http_server;
struct http_server *http_server_new(const struct http_server_config *config);
/* Accepts on a listening socket; takes the descriptor. */
int http_server_listen(struct http_server *server, int descriptor, struct error **ret_error);
/* The same over TLS; takes the context, too (freed with the server), and one only. A client whose first bytes are a
 * plain request is told so in plain; the handshake must be over within the time for a head. */
int http_server_listen_tls(struct http_server *server, int descriptor, struct http_tls_context *tls,
                           struct error **ret_error);
/* The same on a unix socket that only the service's own user and root may use: of each connection the kernel is asked
 * whose it is (SO_PEERCRED). Their requests are `local`; anyone else's are answered 403 and closed before the handler
 * sees them. */
int http_server_listen_local(struct http_server *server, int descriptor, struct error **ret_error);
/* Stops accepting; idle connections are closed, others after their current answer ("Connection: close"). on_drained is
 * called once when no connection is left. Connections that are new in the backlog stay there for another process. */
void http_server_drain(struct http_server *server, void (*on_drained)(void *context), void *context);
/* Gives its connections to another process (RULES U2): stops accepting; from now on each plain connection that is idle,
 * or becomes so, with no byte of a next request read, is given to `take`, which owns the descriptor from then on (bytes
 * that wait in the kernel go with it). TLS connections, whose keys stay here, are closed after their next answer
 * ("Connection: close") or at their idle timeout. on_drained as above. */
void http_server_hand_over(struct http_server *server, void (*take)(int descriptor, void *context),
                           void (*on_drained)(void *context), void *context);
/* Goes on with a connection that another process has handed over; takes the descriptor. It is as an accepted one that
 * has become idle just now; one on a unix socket is held to be of http_server_listen_local(). One whose client has gone
 * meanwhile is closed, which is no error. */
int http_server_adopt(struct http_server *server, int descriptor, struct error **ret_error);
/* Closes everything at once; the memory goes when libuv has closed its handles and the handlers, which on_gone tells
 * from the loop, have ended their requests: their context must live until then. */
void http_server_close(struct http_server *server);
size_t http_server_connections(const struct http_server *server);

/* The first header of that name or NULL. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Splits the path at '/' and percent-decodes each segment; at most `maximum`. Returns how many, or -1 when there are
 * more, or one is malformed, empty (but a trailing one), or not UTF-8. Segments live as long as the request. */
int http_request_segments(struct http_request *request, const char **ret_segments, int maximum);
/* The decoded value of a query parameter or NULL; application/x-www-form-urlencoded. Lives as long as the request. */
const char *http_request_parameter(struct http_request *request, const char *name);
/* CONFIGURATION error that names the first query parameter not in known[0..count), or one that stands twice. */
int http_check_parameters(struct http_request *request, const char *const *known, size_t count,
                          struct error **ret_error);

/* Answers and ends the request. Date, Server, Content-Length and Connection are added (the first two unless they are
 * among the headers, the others always). Bytes that no header value may have become blanks. Headers are copied; so is
 * the body, unless free_body is given, which is then called with `body` when it has been written. A HEAD request gets
 * the head alone. */
void http_respond(struct http_request *request, int status, const struct http_header *headers, size_t header_count,
                  const char *body, size_t body_size, void (*free_body)(void *body));
/* application/json; takes a document (frees it) or a text (copies it). */
void http_respond_json(struct http_request *request, int status, const char *json, size_t size);
/* application/problem+json (RFC 9457) with type, title, status, detail, error, causes; Retry-After for 429 and 503.
 * Does not free the error. */
void http_respond_error(struct http_request *request, const struct error *error);

/* A streamed answer: content_length -1 means chunked (or until close for HTTP/1.0). */
void http_begin(struct http_request *request, int status, const struct http_header *headers, size_t header_count,
                int64_t content_length);
/* Copies what the socket does not take at once. False: more than 256 KiB wait; go on after on_writable. */
bool http_send(struct http_request *request, const char *bytes, size_t size);
void http_end(struct http_request *request);
/* Breaks the answer off: closes the connection, so that the client sees it is incomplete. Ends the request. */
void http_break(struct http_request *request);
bool http_is_gone(const struct http_request *request);
/* Whether any byte of an answer was given to the connection. */
bool http_has_begun(const struct http_request *request);

/* STREAM: stop and go on reading the body (back-pressure). */
void http_pause_body(struct http_request *request);
void http_resume_body(struct http_request *request);

/* A listening socket on "127.0.0.1:8400", "[::1]:8400" or "unix:/path" (an old socket file there is removed). Blocking.
 */
int http_listen(const char *address, int *ret_descriptor, struct error **ret_error);
