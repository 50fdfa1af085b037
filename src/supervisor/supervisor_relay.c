/* What roles say to each other. They hold no connection to one another: each has one to the supervisor, whose death is
 * theirs, so that nobody has to find anybody again. What is passed on is not looked into; nothing is kept for a role
 * that is not there (indexer_up and gateway_up say when to say it again), and one that stops reading is killed when its
 * channel is full (process_say()), so that no queue here grows without end and no sender waits. */
#include "base/memory.h"
#include "supervisor/supervisor-internal.h"

static const struct relay {
    enum wire_type type;
    enum role_index from, to;
} relays[] = {
    {WIRE_routes_changed, ROLE_CONTROLLER, ROLE_GATEWAY}, {WIRE_routes_used, ROLE_GATEWAY, ROLE_CONTROLLER},
    {WIRE_log_appended, ROLE_GATEWAY, ROLE_INDEXER},      {WIRE_log_indexed, ROLE_INDEXER, ROLE_GATEWAY},
    {WIRE_pair_changed, ROLE_INDEXER, ROLE_GATEWAY},      {WIRE_pair_used, ROLE_GATEWAY, ROLE_INDEXER},
    {WIRE_indexer_ask, ROLE_CONTROLLER, ROLE_INDEXER},    {WIRE_indexer_answer, ROLE_INDEXER, ROLE_CONTROLLER},
    {WIRE_index_progress, ROLE_INDEXER, ROLE_CONTROLLER}, {WIRE_collection_events, ROLE_INDEXER, ROLE_CONTROLLER},
};

/* A gateway does not know its own number; the supervisor knows who speaks. */
static void name_gateway(struct wire_message *message, uint64_t gateway_id) {
    if (message->type == WIRE_routes_used) message->routes_used.gateway_id = gateway_id;
    if (message->type == WIRE_pair_used) message->pair_used.gateway_id = gateway_id;
}

bool relay_pass(struct supervisor *supervisor, const struct role *from, const struct wire_message *message) {
    for (size_t i = 0; i < ARRAY_SIZE(relays); i++) {
        if (relays[i].type != message->type || relays[i].from != role_index_of(&from->process)) continue;
        struct wire_message passed = *message;
        name_gateway(&passed, from->gateway_id);
        role_tell(supervisor, relays[i].to, &passed);
        return true;
    }
    return false;
}
