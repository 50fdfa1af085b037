/* Who is up at which address, and what queues for it.
 *
 * A replica is an id with, while it is up, an incarnation: one process at one address with its pooled connections. Both
 * outlive each other's events: snapshots hold replicas, requests hold incarnations. A lane is one revision of one
 * deployment: the queue of requests that wait for one of its replicas, and its figures. It is kept for a while after
 * the last route that named it, so that its last requests are still read, and a rollback goes on counting. Only the
 * supervisor's word brings an incarnation up (P4); a failed connection makes it suspect for a moment, since sockets
 * tell of a death sooner than the supervisor does. Loop thread only.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "gateway/gateway_metrics-internal.h"
#include "gateway/gateway_queue-internal.h"
#include "gateway/gateway_routes-internal.h"
#include "http/http_client.h"

/* How long the figures of a revision without a route are kept. */
#define GATEWAY_LANE_KEPT_MS (15u * 60 * 1000)
/* How long a replica whose connection broke is passed over, unless the supervisor speaks first. */
#define GATEWAY_SUSPECT_MS 200

struct gateway_incarnation {
    struct gateway_replica *replica; /* NULL once another has taken its place or it is down */
    struct http_pool *pool; /* NULL once it is down */
    uint64_t number;
    uint64_t suspect_until_ms; /* 0: not suspect */
    size_t in_flight; /* requests given to it */
    unsigned references; /* those requests, and one for being up */
};

struct gateway_replica {
    char *id;
    struct gateway_incarnation *up; /* NULL: down */
    uint64_t newest; /* the highest incarnation heard of: an older one's late message says nothing */
    unsigned references; /* routes, and one for being up */
    UT_hash_handle hh;
};

struct gateway_lane {
    char *key; /* "<deployment id>/<revision>" */
    char *name; /* the deployment's newest name: with the revision, no other lane's */
    uint64_t revision;
    uint64_t left_ms; /* monotonic: when its last route went */
    struct gateway_queue queue;
    size_t in_flight;
    struct gateway_series series;
    unsigned references; /* routes */
    UT_hash_handle hh;
};

struct gateway_replicas {
    struct http_pool_config pool; /* a model for each; address is set for each */
    size_t in_flight_maximum; /* for one replica */
    size_t queue_maximum; /* for one lane */
    struct gateway_replica *replicas;
    struct gateway_lane *lanes;
    unsigned turn; /* where the search for the least busy one begins */
};

/* Gives a snapshot's route its lane and replicas, and takes them back (struct gateway_route_binder). */
void gateway_replicas_bind(struct gateway_replicas *replicas, struct gateway_route *route);
void gateway_replicas_unbind(struct gateway_replicas *replicas, struct gateway_route *route);

/* The supervisor's word. A repeated or late message changes nothing. */
void gateway_replica_up(struct gateway_replicas *replicas, const char *id, uint64_t incarnation, const char *address);
void gateway_replica_down(struct gateway_replicas *replicas, const char *id, uint64_t incarnation);
/* Frees lanes whose last route went GATEWAY_LANE_KEPT_MS ago; UINT64_MAX: all that have none. */
void gateway_replicas_forget_lanes(struct gateway_replicas *replicas, uint64_t now_ms);
/* Everything down, connections released: at the end. */
void gateway_replicas_close(struct gateway_replicas *replicas);

enum gateway_pick {
    GATEWAY_PICKED,
    GATEWAY_NONE_UP, /* wait for the supervisor's word */
    GATEWAY_ALL_BUSY, /* wait for a request to end */
    GATEWAY_SUSPECT, /* wait for the supervisor's word or *ret_until_ms */
};
/* The route's least busy replica that is up and has room. A picked one is taken: give it back with
 * gateway_incarnation_release(). */
enum gateway_pick gateway_replicas_pick(struct gateway_replicas *replicas, const struct gateway_route *route,
                                        uint64_t now_ms, struct gateway_incarnation **ret_incarnation,
                                        uint64_t *ret_until_ms);
void gateway_incarnation_release(struct gateway_incarnation *incarnation);
/* Its connection broke. */
void gateway_incarnation_suspect(struct gateway_incarnation *incarnation, uint64_t now_ms);
bool gateway_route_is_up(const struct gateway_route *route);
