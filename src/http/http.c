#include "http/http.h"

#include <signal.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "http/http-internal.h"

static const struct {
    int status;
    const char *phrase;
} phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *http_reason_phrase(int status) {
    for (size_t i = 0; i < ARRAY_SIZE(phrases); i++)
        if (phrases[i].status == status) return phrases[i].phrase;
    return "Unknown";
}

bool http_header_is(const struct http_header *header, const char *name) {
    return !strcasecmp(header->name, name);
}

const char *http_find_header(const struct http_header *headers, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (http_header_is(&headers[i], name)) return headers[i].value;
    return NULL;
}

bool http_header_is_hop_by_hop(const char *name) {
    static const char *const names[] = {
        "Connection", "Keep-Alive",         "Proxy-Connection",   "TE", "Trailer", "Transfer-Encoding",
        "Upgrade",    "Proxy-Authenticate", "Proxy-Authorization"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcasecmp(name, names[i])) return true;
    return false;
}

/* Whether the comma-separated list has the name. */
static bool list_has(const char *list, const char *name) {
    size_t length = strlen(name);
    while (*list) {
        list += strspn(list, ", \t");
        size_t size = strcspn(list, ", \t");
        if (size == length && !strncasecmp(list, name, length)) return true;
        list += size;
    }
    return false;
}

bool http_connection_names(const struct http_header *headers, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (http_header_is(&headers[i], "Connection") && list_has(headers[i].value, name)) return true;
    return false;
}

void http_ignore_broken_pipes(void) {
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) || now.sa_handler != SIG_DFL) return;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

/* ---- later --------------------------------------------------------------- */

static void run_waiting(uv_idle_t *idle) {
    struct http_later *later = idle->data;
    /* What is added while these run waits for the next turn, so that no chain of work keeps the loop from its sockets.
     */
    struct http_link now;
    http_link_init(&now);
    if (!http_link_is_alone(&later->waiting)) {
        http_link_put_after(&now, &later->waiting);
        http_link_remove(&later->waiting);
    }
    while (!http_link_is_alone(&now)) {
        struct http_later_item *item = CONTAINER_OF(now.next, struct http_later_item, link);
        http_link_remove(&item->link);
        item->run(item);
    }
    if (http_link_is_alone(&later->waiting) && !uv_is_closing((uv_handle_t *)idle)) uv_idle_stop(idle);
}

void http_later_init(struct http_later *later, uv_loop_t *loop) {
    uv_idle_init(loop, &later->idle);
    later->idle.data = later;
    http_link_init(&later->waiting);
}

void http_later_add(struct http_later *later, struct http_later_item *item) {
    if (!http_link_is_alone(&item->link)) return;
    http_link_put_after(&item->link, later->waiting.previous);
    if (!uv_is_closing((uv_handle_t *)&later->idle)) uv_idle_start(&later->idle, run_waiting);
}

void http_later_remove(struct http_later *later, struct http_later_item *item) {
    http_link_remove(&item->link);
    if (http_link_is_alone(&later->waiting) && !uv_is_closing((uv_handle_t *)&later->idle)) uv_idle_stop(&later->idle);
}
