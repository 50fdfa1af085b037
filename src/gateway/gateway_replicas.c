#include "gateway/gateway_replicas-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

/* ---- lanes --------------------------------------------------------------- */

static void free_lane(struct gateway_replicas *replicas, struct gateway_lane *lane) {
    assert(!lane->queue.length); /* who waits holds a snapshot that holds the lane */
    HASH_DEL(replicas->lanes, lane);
    free(lane->key);
    free(lane->name);
    free(lane);
}

/* Another deployment had the name: deleted, or renamed. Its figures go by its id as long as requests hold it. */
static void take_name_from(struct gateway_replicas *replicas, struct gateway_lane *other) {
    if (!other->references) {
        free_lane(replicas, other);
        return;
    }
    free(other->name);
    other->name = text_copy_bytes(other->key, strcspn(other->key, "/"));
}

static void name_lane(struct gateway_replicas *replicas, struct gateway_lane *lane, const char *name) {
    if (text_equal(lane->name, name)) return;
    struct gateway_lane *other, *next;
    HASH_ITER(hh, replicas->lanes, other, next) {
        if (other != lane && other->revision == lane->revision && text_equal(other->name, name))
            take_name_from(replicas, other);
    }
    free(lane->name);
    lane->name = text_copy(name);
}

static struct gateway_lane *take_lane(struct gateway_replicas *replicas, const struct gateway_route *route) {
    _cleanup_free_ char *key = text_format("%s/%llu", route->deployment_id, (unsigned long long)route->revision);
    struct gateway_lane *lane = NULL;
    HASH_FIND_STR(replicas->lanes, key, lane);
    if (!lane) {
        lane = mem_new(struct gateway_lane);
        lane->key = TAKE(key);
        lane->revision = route->revision;
        lane->queue.maximum = replicas->queue_maximum;
        HASH_ADD_KEYPTR(hh, replicas->lanes, lane->key, strlen(lane->key), lane);
    }
    lane->references++;
    name_lane(replicas, lane, route->name);
    return lane;
}

static void release_lane(struct gateway_lane *lane) {
    if (!--lane->references) lane->left_ms = clock_monotonic_ms();
}

void gateway_replicas_forget_lanes(struct gateway_replicas *replicas, uint64_t now_ms) {
    struct gateway_lane *lane, *next;
    HASH_ITER(hh, replicas->lanes, lane, next) {
        if (!lane->references && now_ms - lane->left_ms >= GATEWAY_LANE_KEPT_MS) free_lane(replicas, lane);
    }
}

/* ---- replicas ------------------------------------------------------------ */

static struct gateway_replica *take_replica(struct gateway_replicas *replicas, const char *id) {
    struct gateway_replica *replica = NULL;
    HASH_FIND_STR(replicas->replicas, id, replica);
    if (!replica) {
        replica = mem_new(struct gateway_replica);
        replica->id = text_copy(id);
        HASH_ADD_KEYPTR(hh, replicas->replicas, replica->id, strlen(replica->id), replica);
    }
    replica->references++;
    return replica;
}

static void release_replica(struct gateway_replicas *replicas, struct gateway_replica *replica) {
    if (--replica->references) return;
    assert(!replica->up);
    HASH_DEL(replicas->replicas, replica);
    free(replica->id);
    free(replica);
}

void gateway_incarnation_release(struct gateway_incarnation *incarnation) {
    assert(incarnation->in_flight);
    incarnation->in_flight--;
    if (!--incarnation->references) free(incarnation);
}

static void take_down(struct gateway_replicas *replicas, struct gateway_replica *replica) {
    struct gateway_incarnation *gone = replica->up;
    replica->up = NULL;
    http_pool_release(TAKE(gone->pool)); /* what runs on it goes on to its end */
    gone->replica = NULL;
    if (!--gone->references) free(gone);
    release_replica(replicas, replica);
}

void gateway_replica_up(struct gateway_replicas *replicas, const char *id, uint64_t incarnation, const char *address) {
    struct gateway_replica *replica = take_replica(replicas, id); /* the reference for being up */
    bool is_news = !replica->up ? incarnation > replica->newest || !replica->newest : incarnation > replica->up->number;
    if (!is_news) {
        release_replica(replicas, replica);
        return;
    }
    if (replica->up) take_down(replicas, replica);
    struct gateway_incarnation *up = mem_new(struct gateway_incarnation);
    struct http_pool_config config = replicas->pool;
    config.address = address;
    *up = (struct gateway_incarnation){
        .replica = replica, .pool = http_pool_new(&config), .number = incarnation, .references = 1};
    replica->up = up;
    replica->newest = incarnation;
}

void gateway_replica_down(struct gateway_replicas *replicas, const char *id, uint64_t incarnation) {
    struct gateway_replica *replica = NULL;
    HASH_FIND_STR(replicas->replicas, id, replica);
    if (!replica) return;
    if (incarnation > replica->newest) replica->newest = incarnation;
    if (replica->up && replica->up->number <= incarnation) take_down(replicas, replica);
}

void gateway_replicas_close(struct gateway_replicas *replicas) {
    struct gateway_replica *replica, *next;
    HASH_ITER(hh, replicas->replicas, replica, next) {
        if (replica->up) take_down(replicas, replica);
    }
}

void gateway_incarnation_suspect(struct gateway_incarnation *incarnation, uint64_t now_ms) {
    incarnation->suspect_until_ms = now_ms + GATEWAY_SUSPECT_MS;
}

/* ---- binding ------------------------------------------------------------- */

void gateway_replicas_bind(struct gateway_replicas *replicas, struct gateway_route *route) {
    route->lane = take_lane(replicas, route);
    route->replicas = mem_new_array(route->replica_count, struct gateway_replica *);
    for (size_t i = 0; i < route->replica_count; i++)
        route->replicas[i] = take_replica(replicas, route->replica_ids[i]);
}

void gateway_replicas_unbind(struct gateway_replicas *replicas, struct gateway_route *route) {
    if (!route->lane) return;
    for (size_t i = 0; i < route->replica_count; i++) release_replica(replicas, route->replicas[i]);
    release_lane(route->lane);
}

/* ---- choosing ------------------------------------------------------------ */

bool gateway_route_is_up(const struct gateway_route *route) {
    for (size_t i = 0; i < route->replica_count; i++)
        if (route->replicas[i]->up) return true;
    return false;
}

static bool is_suspect(struct gateway_incarnation *incarnation, uint64_t now_ms) {
    if (!incarnation->suspect_until_ms) return false;
    if (now_ms < incarnation->suspect_until_ms) return true;
    incarnation->suspect_until_ms = 0;
    return false;
}

enum gateway_pick gateway_replicas_pick(struct gateway_replicas *replicas, const struct gateway_route *route,
                                        uint64_t now_ms, struct gateway_incarnation **ret_incarnation,
                                        uint64_t *ret_until_ms) {
    struct gateway_incarnation *best = NULL;
    enum gateway_pick why_not = GATEWAY_NONE_UP;
    uint64_t until_ms = UINT64_MAX;
    size_t first = route->replica_count > 1 ? replicas->turn++ % route->replica_count : 0;
    for (size_t i = 0; i < route->replica_count; i++) {
        struct gateway_incarnation *up = route->replicas[(first + i) % route->replica_count]->up;
        if (!up) continue;
        if (is_suspect(up, now_ms)) {
            if (up->suspect_until_ms < until_ms) until_ms = up->suspect_until_ms;
            if (why_not == GATEWAY_NONE_UP) why_not = GATEWAY_SUSPECT;
        } else if (up->in_flight >= replicas->in_flight_maximum) {
            why_not = GATEWAY_ALL_BUSY;
        } else if (!best || up->in_flight < best->in_flight) {
            best = up;
        }
    }
    if (!best) {
        if (until_ms != UINT64_MAX) *ret_until_ms = until_ms;
        return why_not;
    }
    best->in_flight++;
    best->references++;
    *ret_incarnation = best;
    return GATEWAY_PICKED;
}
