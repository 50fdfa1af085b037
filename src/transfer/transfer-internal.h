/* The files of transfer: transfer_address.c (which addresses), transfer_url.c (hosts, origins, redirects),
 * transfer_call.c (one exchange and its redirects over libcurl), transfer_loop.c (driving several), transfer_perform.c
 * (a request with a short answer), transfer_answer.c (headers, the server's words), transfer_file.c (writing below a
 * folder), transfer_download.c (many files). */
#pragma once
#include <curl/curl.h>

#include "base/buffer.h"
#include "transfer/transfer.h"

#define TRANSFER_HEADERS_MAXIMUM (128u << 10) /* bytes of one answer's head */
#define TRANSFER_ERROR_BODY_MAXIMUM (64u << 10) /* of an answer that is only looked at for its words */

struct transfer {
    struct transfer_config config;
    CURLM *multi;
};

/* ---- transfer_url.c ---- */

/* "https://host:443", lower case; NULL unless the URL is http or https with a host. Caller frees. */
char *transfer_origin(const char *url);
/* Of the config's class unless the URL is http or https, without user and password, and of an allowed host. */
int transfer_check_url(const struct transfer *transfer, const char *url, struct error **ret_error);
/* Where `location`, as the answer of `url`, leads. Refuses what transfer_check_url() does, and leaving https. */
int transfer_follow(const struct transfer *transfer, const char *url, const char *location, char **ret_url,
                    struct error **ret_error);

/* ---- transfer_answer.c ---- */

/* The last header of that name in a head as it came, or NULL; caller frees. */
char *transfer_find_header(const char *head, const char *name);
/* TRANSFER_SIZE_UNKNOWN when the head does not say. */
uint64_t transfer_content_length(const char *head);
/* "bytes 5-9/10" of Content-Range (RFC 9110, 14.4); false unless it is well-formed. *ret_total: TRANSFER_SIZE_UNKNOWN
 * for "*". */
bool transfer_content_range(const char *head, uint64_t *ret_first, uint64_t *ret_total);
/* What the server says: out of JSON, XML, HTML or plain text, printable, at most 300 bytes; NULL: nothing. Caller
 * frees. */
char *transfer_words(const char *body, size_t size);
int transfer_fail_status(const struct transfer *transfer, int status, const char *url, const char *body, size_t size,
                         struct error **ret_error);

/* ---- transfer_call.c ---- */

enum call_outcome {
    CALL_ANSWERED, /* a complete answer */
    CALL_MOVED, /* it has been started again, behind a redirect */
    CALL_AGAIN, /* an error that a new try may mend */
    CALL_FAILED,
};

/* One request on its way. Zeroed by call_begin(); may be started any number of times. */
struct call {
    struct transfer *transfer;
    CURL *curl;
    struct transfer_request request; /* what it borrows lives as long as the call runs */
    const char *extra_headers[2]; /* or NULL */
    /* Called when the head of an answer is there that is no redirect, then with its body. Non-zero ends the call:
     * `failure` is set. NULL: the body is kept, up to body.maximum. */
    int (*on_head)(struct call *call);
    int (*on_body)(struct call *call, const char *bytes, size_t size);
    void *context;

    struct curl_slist *headers;
    char *url, *home; /* where it is now; the origin that it was given credentials for */
    unsigned redirects;
    bool is_running, is_done, is_connected, is_enough;
    CURLcode code;
    char reason[CURL_ERROR_SIZE];
    char *refused; /* an address, with why; NULL */
    uint64_t heard_ms; /* of the last byte in or out */
    uint64_t sent_bytes;
    struct error *failure; /* found in a callback */
    bool failure_is_final;

    int status;
    struct buffer head, body;
};

void call_begin(struct call *call, struct transfer *transfer);
void call_clear(struct call *call);
#define _cleanup_call_ __attribute__((cleanup(call_clear)))
int call_start(struct call *call, const struct transfer_request *request, struct error **ret_error);
void call_stop(struct call *call);
/* When it is done. An error for AGAIN and FAILED; that of AGAIN is transient. */
enum call_outcome call_finish(struct call *call, struct error **ret_error);
/* How long to wait before the next try: grows with the failures in a row; what the server asked for, if it did. False:
 * it asked for more than five minutes, or more than there is until the deadline. */
bool call_pause(const struct call *call, unsigned failures, uint64_t *ret_pause_ms);
/* Sets *ret_error for what ended in a callback, and gives -1. */
int call_fail(struct call *call, bool is_final, struct error *error);

/* ---- transfer_loop.c ---- */

/* UNAVAILABLE "canceled", or the deadline's error. */
int transfer_check(const struct transfer *transfer, struct error **ret_error);
/* Moves bytes until something of `calls` is done, or until `until_ms` (clock_monotonic_ms), or for a tenth of a second.
 * What was silent for too long is done, too. */
int transfer_turn(struct transfer *transfer, struct call *const *calls, size_t count, uint64_t until_ms,
                  struct error **ret_error);

/* ---- transfer_file.c ---- */

/* A new file below the folder, with the folders that its path needs, following no link. -1 with errno. */
int transfer_make_file(int folder, const char *path);
int transfer_write(int descriptor, const char *bytes, size_t size);
/* What was written goes to the disk while more of it comes, so that who syncs the file later waits for little. A hint:
 * its failure is that of the later sync. */
void transfer_begin_writeback(int descriptor, uint64_t written_before, size_t size);
int transfer_fail_disk(const struct transfer *transfer, int errno_value, const char *path, struct error **ret_error);
