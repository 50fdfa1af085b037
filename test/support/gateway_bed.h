/* A gateway on the test's own loop, between a fake supervisor and fake replicas, with a real control database and a
 * client. Nothing sleeps: gateway_bed_until() turns the loop until a condition holds or its deadline fails the test. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/settings.h"
#include "fakes/fake_runner.h"
#include "fakes/fake_supervisor.h"
#include "gateway/gateway-internal.h"
#include "http/http_client.h"
#include "store/store.h"

struct gateway_bed {
    uv_loop_t loop;
    uv_timer_t tick;
    char folder[64];
    struct settings *settings;
    struct store *store; /* NULL: there is no database */
    struct fake_supervisor supervisor;
    struct gateway *gateway;
    bool has_ended;
    int exit_status;
    struct http_pool *client;
    uint64_t generation;
};

/* What a client got. Zero-initialise; clear with client_clear(). */
struct client {
    struct http_call *call;
    int status;
    struct buffer headers; /* "name: value\n"… */
    struct buffer body;
    size_t received; /* of the body, also what `counts_only` does not keep */
    bool counts_only, pauses; /* pauses: stops reading at the first piece of the body */
    bool head_came, has_ended, has_failed, is_writable;
};

/* Settings, folder, database; change the settings before gateway_bed_start(). */
void gateway_bed_open(struct gateway_bed *bed);
void gateway_bed_make_database(struct gateway_bed *bed);
/* The gateway and its supervisor; waits until it accepts. */
void gateway_bed_start(struct gateway_bed *bed);
/* The same without saying or waiting for anything. */
void gateway_bed_begin(struct gateway_bed *bed);
void gateway_bed_close(struct gateway_bed *bed);

#define GATEWAY_BED_DEADLINE_MS 10000
/* until(bed, condition): fails the test with the condition's text when it does not come true in time. */
#define until(bed, condition)                                                                                          \
    do {                                                                                                               \
        uint64_t deadline_ = clock_monotonic_ms() + GATEWAY_BED_DEADLINE_MS;                                           \
        while (!(condition)) {                                                                                         \
            if (clock_monotonic_ms() > deadline_) fail_msg("never came: %s", #condition);                              \
            gateway_bed_turn(bed);                                                                                     \
        }                                                                                                              \
    } while (0)
void gateway_bed_turn(struct gateway_bed *bed);
/* Turns the loop for a while, for what must not happen: it may come late, but a fault shows here nearly always. */
void gateway_bed_settle(struct gateway_bed *bed, unsigned turns);

/* Writes a deployment's route, its names joined by ',' (the first is the current one) and its replicas, and raises the
 * generation; `announce` tells the gateway and waits until it routes by it. */
void gateway_bed_route(struct gateway_bed *bed, const char *deployment_id, const char *names, unsigned revision,
                       const char *replicas, bool announce);
void gateway_bed_announce(struct gateway_bed *bed);
void gateway_bed_unroute(struct gateway_bed *bed, const char *deployment_id);
void gateway_bed_sql(struct gateway_bed *bed, const char *sql);
/* The path of a replica's or the controller's socket. Valid until the next call. */
const char *gateway_bed_socket(struct gateway_bed *bed, const char *name);
/* Opens a fake replica and lets the supervisor say that it is up. */
void gateway_bed_replica(struct gateway_bed *bed, struct fake_runner *runner, const char *id, unsigned incarnation);
void gateway_bed_say_down(struct gateway_bed *bed, const char *id, unsigned incarnation, bool final);

void client_ask(struct gateway_bed *bed, struct client *client, const struct http_call_request *request);
void client_get(struct gateway_bed *bed, struct client *client, const char *target);
void client_post(struct gateway_bed *bed, struct client *client, const char *target, const char *body);
/* Until its answer has ended or failed. */
void client_wait(struct gateway_bed *bed, struct client *client);
bool client_saw(const struct client *client, const char *line);
void client_clear(struct client *client);
