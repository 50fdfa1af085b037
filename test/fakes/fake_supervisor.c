#include "fakes/fake_supervisor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"

void fake_supervisor_open(struct fake_supervisor *supervisor, int *ret_descriptor) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) abort();
    *supervisor = (struct fake_supervisor){.channel = wire_channel_new(ends[0])};
    *ret_descriptor = ends[1];
}

void fake_supervisor_close(struct fake_supervisor *supervisor) {
    wire_channel_free(TAKE(supervisor->channel));
}

static void note_routes_used(struct fake_supervisor *supervisor, const struct wire_routes_used *used) {
    supervisor->generation = used->generation;
    supervisor->lowest = used->lowest;
    if (supervisor->routes_used_count < ARRAY_SIZE(supervisor->generations))
        supervisor->generations[supervisor->routes_used_count] = used->generation;
    supervisor->routes_used_count++;
}

static void note_appended(struct fake_supervisor *supervisor, const struct wire_log_appended *appended) {
    bool is_queries = !strcmp(appended->set, "queries");
    *(is_queries ? &supervisor->queries_head : &supervisor->appended_head) = appended->head;
    supervisor->appended_count += !is_queries;
}

static void note_pair_used(struct fake_supervisor *supervisor, const struct wire_pair_used *used) {
    supervisor->pair_used_count++;
    supervisor->pair_epoch = used->epoch;
    supervisor->pair_lowest = used->lowest;
}

void fake_supervisor_hear(struct fake_supervisor *supervisor) {
    while (supervisor->channel && !supervisor->peer_is_gone) {
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(supervisor->channel, &message, NULL);
        if (received < 0) supervisor->peer_is_gone = true;
        if (received <= 0) return;
        switch (message.type) {
        case WIRE_hello: supervisor->said_hello = true; break;
        case WIRE_role_ready: supervisor->said_ready = true; break;
        case WIRE_pong: supervisor->pongs++; break;
        case WIRE_routes_used: note_routes_used(supervisor, &message.routes_used); break;
        case WIRE_log_appended: note_appended(supervisor, &message.log_appended); break;
        case WIRE_pair_used: note_pair_used(supervisor, &message.pair_used); break;
        default: break;
        }
    }
}
