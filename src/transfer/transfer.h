/* Transfers: HTTP to servers outside of Slipway, over libcurl: registries, object stores, container registries.
 *
 * What is kept here, for every user and once:
 *   - Only hosts that the user allowed are asked, also after a redirect (at most 5). After the name has been resolved,
 *     addresses that are link-local, multicast, unspecified or a cloud's metadata service are refused, in whatever form
 *     they are written (IPv4 in IPv6, NAT64). The environment's proxies are not used: behind one, none of this would
 *     hold.
 *   - Credentials go to the scheme, host and port that they were given for, and nowhere else; no error names them.
 *   - Every answer has a ceiling; connecting, silence and the whole have deadlines.
 *   - What can help is tried again with a growing pause: a connection that failed or broke, 408, 429 and 5xx
 * (Retry-After is kept). Downloads go on where they broke (Range with If-Range, RFC 9110 §13.1.5 and §14); a server
 * that answers with another whole file is begun anew.
 *
 * Blocking; worker threads only. A struct transfer belongs to one thread; any number of them may be open at once. May
 * use: base. Errors have the class that the config names; one that trying later may mend is transient. UNAVAILABLE
 * "canceled" when *canceled is set, UNAVAILABLE and transient when the disk is full.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct transfer_config {
    enum error_class class; /* ERROR_MODEL_REGISTRY, ERROR_EXTERNAL_SERVICE */
    /* "models.example.com" (any port), "localhost:5000", "*.example.com" (any depth), "[::1]:9000". */
    const char *const *hosts;
    size_t host_count;
    const char *ca_file; /* PEM of the authorities that https servers are checked by; NULL: the system's */
    uint64_t connect_timeout_ms, stall_timeout_ms; /* stall: so long without a byte is a broken connection */
    uint64_t deadline_ms; /* of everything that is done with it, clock_monotonic_ms(); 0: none */
    unsigned attempts; /* in a row without progress */
    unsigned parallel; /* downloads at once */
    const atomic_bool *canceled; /* may be NULL */
};
struct transfer;
/* Copies the config; the strings it points to must live as long. */
int transfer_open(const struct transfer_config *config, struct transfer **ret_transfer, struct error **ret_error);
void transfer_close(struct transfer *transfer);
static inline void transfer_close_pointer(struct transfer **transfer) {
    transfer_close(*transfer);
}
#define _cleanup_transfer_ __attribute__((cleanup(transfer_close_pointer)))

/* Whether the host of this URL is among them. */
bool transfer_host_matches(const char *url, const char *const *hosts, size_t host_count);
/* Whether an address (struct sockaddr) may be connected to at all, whatever the name was. */
struct sockaddr;
bool transfer_address_is_allowed(const struct sockaddr *address);
/* The URL without user, password, query and fragment: for errors and records. Caller frees. */
char *transfer_public_url(const char *url);

enum transfer_authentication {
    TRANSFER_ANONYMOUS,
    TRANSFER_BASIC, /* user, secret (RFC 7617) */
    TRANSFER_BEARER, /* secret (RFC 6750) */
    TRANSFER_AWS, /* user: access key id, secret; SigV4 with x-amz-content-sha256 */
};
struct transfer_credentials {
    enum transfer_authentication kind;
    const char *user, *secret;
    const char *session_token, *region, *service; /* AWS; session_token may be NULL */
};

/* ---- one request with a short answer ---- */

struct transfer_request {
    const char *method; /* NULL: GET */
    const char *url;
    const char *const *headers; /* "Name: value" */
    size_t header_count;
    struct transfer_credentials credentials;
    /* The body; with `read`, body_size bytes from there. `read` may be asked for any offset again; it fills as much as
     * it likes, at least one byte. */
    const void *body;
    uint64_t body_size;
    int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size, struct error **ret_error);
    void *read_context;
    size_t answer_maximum; /* bytes; 0: 1 MiB */
    bool only_once; /* not idempotent: not sent again once a byte of it may have arrived */
    bool keep_redirect; /* 3xx is the answer */
    bool cut; /* of an answer that is longer than answer_maximum, its beginning is enough */
};
struct transfer_answer {
    int status;
    char *body; /* NUL-terminated */
    size_t body_size;
    char *headers; /* the last answer's, as they came */
    char *url; /* of the answer, behind redirects */
};
/* 0 for every complete answer below 500 but 408 and 429, which are tried again and then an error, as 5xx. */
int transfer_perform(struct transfer *transfer, const struct transfer_request *request,
                     struct transfer_answer *ret_answer, struct error **ret_error);
void transfer_answer_clear(struct transfer_answer *answer);
#define _cleanup_answer_ __attribute__((cleanup(transfer_answer_clear)))
/* The last header of that name, or NULL; caller frees. */
char *transfer_answer_header(const struct transfer_answer *answer, const char *name);
/* An error of the config's class out of an answer that is not what was hoped for: "404 from the server: <its words>".
 * The words come from JSON (message, error.message, errors[0].message, detail), XML (Code, Message), or plain text, at
 * most 300 bytes, made printable. Final, not transient. */
int transfer_fail_answer(struct transfer *transfer, const struct transfer_answer *answer, struct error **ret_error);

/* ---- many files ---- */

#define TRANSFER_SIZE_UNKNOWN UINT64_MAX

struct transfer_file {
    const char *url;
    const char *const *headers;
    size_t header_count;
    struct transfer_credentials credentials;
    const char *path; /* below the folder; checked by the caller (registry_resolution_add); folders are made */
    uint64_t size_bytes; /* or TRANSFER_SIZE_UNKNOWN; another one in the answer is an error */
    const char *sha256; /* hex; verified when it is given */
    const char *validator; /* an ETag (with its quotes) that the answer must have; NULL: any, the same to the end */
    char ret_sha256[65]; /* of what was written */
    uint64_t ret_size_bytes;
};
struct transfer_download {
    int folder; /* an open folder; files are made new below it, following no link */
    struct transfer_file *files;
    size_t count;
    uint64_t size_maximum; /* of all together; 0: none. Refused before a byte is asked for where sizes are known */
    /* Told now and then; done never falls. total: what is known of it. May be NULL. */
    void (*on_progress)(uint64_t done_bytes, uint64_t total_bytes, void *context);
    void *progress_context;
};
/* All of them, `parallel` at once, each verified. The first that fails for good ends all. Files are not synced. */
int transfer_download(struct transfer *transfer, const struct transfer_download *download, struct error **ret_error);
