/* Routes: immutable, counted snapshots of the routing tables, each with its generation (R1, R2).
 *
 * A snapshot is read from the control database on a worker, then bound and installed on the loop: binding gives each
 * route its lane (queue and figures, which outlive snapshots) and its replicas (who is up), so that a request looks up
 * one name and nothing else. From then on the loop thread owns it; it is freed when it is no longer the current one and
 * the last request that took it has given it back.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/error.h"
#include "gateway/gateway_tokens-internal.h"
#include "store/store.h"

struct gateway_collection;
struct gateway_lane;
struct gateway_replica;

/* What serves one deployment. */
struct gateway_route {
    char *deployment_id;
    char *name; /* the current one */
    uint64_t revision;
    int64_t created_at_ms; /* of the revision */
    char **replica_ids;
    size_t replica_count;
    struct gateway_lane *lane; /* NULL until bound */
    struct gateway_replica **replicas; /* replica_count of them; NULL until bound */
    UT_hash_handle hh; /* by deployment_id */
};

/* A name that answers, current or former. */
struct gateway_route_name {
    char *name;
    bool is_current;
    struct gateway_route *route;
    UT_hash_handle hh; /* by name */
};

/* A collection that takes requests: one that is being deleted is left out (X8). */
struct gateway_collection_name {
    char *name, *id;
    struct gateway_collection *collection; /* NULL until bound */
    UT_hash_handle hh; /* by name */
};

struct gateway_snapshot {
    uint64_t generation;
    struct gateway_route *routes;
    struct gateway_route_name *names;
    struct gateway_collection_name *collections;
    struct gateway_tokens *tokens; /* counted; NULL: nobody could read yet which there are */
    unsigned references; /* requests that took it, and one for being the current one */
    struct gateway_routes *owner;
    struct gateway_snapshot *older, *newer;
};

/* Gives a snapshot's route its lane and replicas, its collections what is known of them, and takes them back. */
struct gateway_route_binder {
    void (*bind)(void *context, struct gateway_route *route);
    void (*unbind)(void *context, struct gateway_route *route);
    void (*bind_collection)(void *context, struct gateway_collection_name *name);
    void (*unbind_collection)(void *context, struct gateway_collection_name *name);
    /* current or lowest generation has changed: time to tell the controller. */
    void (*use_changed)(void *context, uint64_t generation, uint64_t lowest);
    void *context;
};

struct gateway_routes {
    struct gateway_route_binder binder;
    struct gateway_snapshot *current; /* NULL before the first */
    struct gateway_snapshot *oldest; /* of those in use */
};

/* Reads all of it in one read transaction. Blocks: worker threads. The caller owns *ret_snapshot until it is installed
 * or freed with gateway_snapshot_free(). known: the tokens of the snapshot before, which stay when they have not
 * changed; NULL: none. */
int gateway_snapshot_read(struct store *store, struct gateway_tokens *known, struct gateway_snapshot **ret_snapshot,
                          struct error **ret_error);
/* The snapshot of a service whose database cannot be read yet: nothing, not even tokens, generation 0. */
struct gateway_snapshot *gateway_snapshot_empty(void);
/* One that was never installed. */
void gateway_snapshot_free(struct gateway_snapshot *snapshot);

/* Makes it the current one and takes it; the one before lives on while requests use it. One that is not newer than the
 * current one is freed instead: false. */
bool gateway_routes_install(struct gateway_routes *routes, struct gateway_snapshot *snapshot);
/* The current one, counted; NULL before the first. */
struct gateway_snapshot *gateway_routes_take(struct gateway_routes *routes);
void gateway_snapshot_release(struct gateway_snapshot *snapshot);
/* The lowest generation that anything uses. */
uint64_t gateway_routes_lowest(const struct gateway_routes *routes);
/* Gives the current one up; after it the last release frees everything. */
void gateway_routes_close(struct gateway_routes *routes);

/* The route that answers to a name (current or former) or a deployment id; NULL when there is none. Lives as long as
 * the snapshot. `name` need not be NUL-terminated. */
struct gateway_route *gateway_snapshot_find(const struct gateway_snapshot *snapshot, const char *name, size_t size);
/* The collection of that name, or NULL. */
struct gateway_collection *gateway_snapshot_find_collection(const struct gateway_snapshot *snapshot, const char *name);
