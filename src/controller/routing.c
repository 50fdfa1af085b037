/* Which gateway uses which generation of routes (R2), and waiting for them. */
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "controller/engine-internal.h"

#define GATEWAYS_MAXIMUM 64

struct gateway {
    uint64_t id, generation, lowest;
};

struct routing {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct gateway gateways[GATEWAYS_MAXIMUM];
    size_t count;
    uint64_t announced;
    void (*announce)(uint64_t generation, void *context);
    void *context;
};

struct routing *routing_new(void (*announce)(uint64_t generation, void *context), void *context) {
    struct routing *routing = mem_new(struct routing);
    routing->announce = announce;
    routing->context = context;
    pthread_mutex_init(&routing->mutex, NULL);
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_cond_init(&routing->changed, &kind);
    pthread_condattr_destroy(&kind);
    return routing;
}

void routing_free(struct routing *routing) {
    if (!routing) return;
    pthread_cond_destroy(&routing->changed);
    pthread_mutex_destroy(&routing->mutex);
    free(routing);
}

void routing_announce(struct routing *routing, uint64_t generation) {
    pthread_mutex_lock(&routing->mutex);
    bool is_new = generation > routing->announced;
    if (is_new) routing->announced = generation;
    pthread_mutex_unlock(&routing->mutex);
    if (is_new && routing->announce) routing->announce(generation, routing->context);
}

static struct gateway *find(struct routing *routing, uint64_t id) {
    for (size_t i = 0; i < routing->count; i++)
        if (routing->gateways[i].id == id) return &routing->gateways[i];
    return NULL;
}

/* A gateway beyond the ceiling takes the place of none: the supervisor keeps one, two while one replaces another. */
static struct gateway *find_or_add(struct routing *routing, uint64_t id) {
    struct gateway *gateway = find(routing, id);
    if (gateway || routing->count == GATEWAYS_MAXIMUM) return gateway;
    gateway = &routing->gateways[routing->count++];
    *gateway = (struct gateway){.id = id};
    return gateway;
}

void routing_gateway_up(struct routing *routing, uint64_t gateway_id) {
    pthread_mutex_lock(&routing->mutex);
    find_or_add(routing, gateway_id);
    pthread_mutex_unlock(&routing->mutex);
}

void routing_gateway_down(struct routing *routing, uint64_t gateway_id) {
    pthread_mutex_lock(&routing->mutex);
    struct gateway *gateway = find(routing, gateway_id);
    if (gateway) *gateway = routing->gateways[--routing->count];
    pthread_cond_broadcast(&routing->changed);
    pthread_mutex_unlock(&routing->mutex);
}

void routing_gateway_uses(struct routing *routing, uint64_t gateway_id, uint64_t generation, uint64_t lowest) {
    pthread_mutex_lock(&routing->mutex);
    struct gateway *gateway = find_or_add(routing, gateway_id);
    if (gateway) {
        gateway->generation = generation;
        gateway->lowest = lowest;
    }
    pthread_cond_broadcast(&routing->changed);
    pthread_mutex_unlock(&routing->mutex);
}

static bool is_reached(const struct routing *routing, uint64_t generation, bool alone) {
    for (size_t i = 0; i < routing->count; i++) {
        const struct gateway *gateway = &routing->gateways[i];
        if (gateway->generation < generation || (alone && gateway->lowest < generation)) return false;
    }
    return true;
}

static enum routing_outcome wait_until(struct routing *routing, uint64_t generation, bool alone, uint64_t deadline_ms,
                                       const atomic_bool *interrupted) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000), .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    int waited = 0;
    pthread_mutex_lock(&routing->mutex);
    while (!is_reached(routing, generation, alone) && !atomic_load(interrupted) && !waited)
        waited = pthread_cond_timedwait(&routing->changed, &routing->mutex, &until);
    bool reached = is_reached(routing, generation, alone);
    pthread_mutex_unlock(&routing->mutex);
    return reached ? ROUTING_REACHED : atomic_load(interrupted) ? ROUTING_INTERRUPTED : ROUTING_DEADLINE;
}

enum routing_outcome routing_wait_acknowledged(struct routing *routing, uint64_t generation, uint64_t deadline_ms,
                                               const atomic_bool *interrupted) {
    return wait_until(routing, generation, false, deadline_ms, interrupted);
}

enum routing_outcome routing_wait(struct routing *routing, uint64_t generation, uint64_t deadline_ms,
                                  const atomic_bool *interrupted) {
    return wait_until(routing, generation, true, deadline_ms, interrupted);
}

void routing_wake(struct routing *routing) {
    pthread_mutex_lock(&routing->mutex);
    pthread_cond_broadcast(&routing->changed);
    pthread_mutex_unlock(&routing->mutex);
}
