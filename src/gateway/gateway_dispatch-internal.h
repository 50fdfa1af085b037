/* From method and target to the route that serves it. The table is http/routes.def; 404, and 405 with its Allow, come
 * from it. Patterns are taken apart once; matching allocates nothing and reads each segment once. Literal segments
 * match as they are sent, parameters are what stands between two slashes, still percent-encoded; one slash at the end
 * of a path is passed over. HEAD is served by a GET route. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "http/http_server.h"

struct exchange;

enum gateway_kind { GATEWAY_HEALTH, GATEWAY_OWN, GATEWAY_DATA, GATEWAY_DOCUMENT, GATEWAY_CONTROL, GATEWAY_KINDS };
extern const char *const gateway_kind_names[GATEWAY_KINDS];

/* What a token has to be allowed for a route (http/routes.def). */
enum gateway_role { ROLE_ANYONE, ROLE_MEMBER, ROLE_READ, ROLE_INFER, ROLE_DEPLOY, ROLE_ADMIN };

struct gateway_endpoint {
    const char *method, *pattern, *name, *summary;
    enum gateway_kind kind;
    enum gateway_role role;
    /* Called with the head; answers now or says how the body comes and goes on from there. */
    enum http_body_mode (*serve)(struct exchange *exchange);
};

extern const struct gateway_endpoint gateway_endpoints[];
extern const size_t gateway_endpoint_count;

struct gateway_slice {
    const char *bytes;
    size_t size;
};

#define GATEWAY_SEGMENTS 8 /* a path with more matches nothing */
#define GATEWAY_PARAMETERS 2 /* {…} in one pattern at most */

struct gateway_match {
    const struct gateway_endpoint *endpoint; /* NULL: 404, or 405 when path_exists */
    bool path_exists; /* under another method */
    struct gateway_slice parameters[GATEWAY_PARAMETERS];
    size_t parameter_count;
};

struct gateway_dispatch;
struct gateway_dispatch *gateway_dispatch_new(void);
void gateway_dispatch_free(struct gateway_dispatch *dispatch);
/* Slices point into `path`, which ends at NUL or '?'. */
void gateway_dispatch_find(const struct gateway_dispatch *dispatch, const char *method, const char *path,
                           struct gateway_match *ret_match);
/* "GET, HEAD, POST": what the path can be asked with. `ret_allow` has room for 64 bytes. */
void gateway_dispatch_allow(const struct gateway_dispatch *dispatch, const char *path, char ret_allow[64]);
