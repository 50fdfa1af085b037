/* Waiting for gateways (R2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "controller/engine-internal.h"

struct told {
    uint64_t generation;
    int count;
};

static void on_announce(uint64_t generation, void *context) {
    struct told *told = context;
    told->generation = generation;
    told->count++;
}

static const uint64_t long_ago = 1;
static atomic_bool never;

static uint64_t in_20_s(void) {
    return clock_monotonic_ms() + 20000;
}

static void without_gateways_there_is_nothing_to_wait_for(void **state) {
    (void)state;
    struct routing *routing = routing_new(NULL, NULL);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_REACHED);
    routing_free(routing);
}

static void a_gateway_that_said_nothing_is_waited_for(void **state) {
    (void)state;
    struct routing *routing = routing_new(NULL, NULL);
    routing_gateway_up(routing, 1);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_DEADLINE);
    assert_int_equal(routing_wait_acknowledged(routing, 5, long_ago, &never), ROUTING_DEADLINE);
    routing_free(routing);
}

static void acknowledged_is_less_than_alone_in_use(void **state) {
    (void)state;
    struct routing *routing = routing_new(NULL, NULL);
    routing_gateway_uses(routing, 1, 5, 4);
    assert_int_equal(routing_wait_acknowledged(routing, 5, long_ago, &never), ROUTING_REACHED);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_DEADLINE);
    routing_gateway_uses(routing, 1, 6, 5);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_REACHED);
    routing_free(routing);
}

static void every_gateway_counts_and_one_that_is_gone_does_not(void **state) {
    (void)state;
    struct routing *routing = routing_new(NULL, NULL);
    routing_gateway_uses(routing, 1, 5, 5);
    routing_gateway_uses(routing, 2, 5, 3);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_DEADLINE);
    routing_gateway_down(routing, 2);
    assert_int_equal(routing_wait(routing, 5, long_ago, &never), ROUTING_REACHED);
    routing_free(routing);
}

struct waiting {
    struct routing *routing;
    atomic_bool interrupted;
    enum routing_outcome outcome;
};

static void *wait_for_5(void *context) {
    struct waiting *waiting = context;
    waiting->outcome = routing_wait(waiting->routing, 5, in_20_s(), &waiting->interrupted);
    return NULL;
}

static void who_waits_is_woken_by_the_last_gateway(void **state) {
    (void)state;
    struct waiting waiting = {.routing = routing_new(NULL, NULL)};
    pthread_t thread;
    routing_gateway_uses(waiting.routing, 1, 4, 4);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_5, &waiting), 0);
    routing_gateway_uses(waiting.routing, 1, 5, 4);
    routing_gateway_uses(waiting.routing, 1, 5, 5);
    pthread_join(thread, NULL);
    assert_int_equal(waiting.outcome, ROUTING_REACHED);
    routing_free(waiting.routing);
}

static void who_waits_is_woken_when_it_is_interrupted(void **state) {
    (void)state;
    struct waiting waiting = {.routing = routing_new(NULL, NULL)};
    pthread_t thread;
    routing_gateway_up(waiting.routing, 1);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_5, &waiting), 0);
    atomic_store(&waiting.interrupted, true);
    routing_wake(waiting.routing);
    pthread_join(thread, NULL);
    assert_int_equal(waiting.outcome, ROUTING_INTERRUPTED);
    routing_free(waiting.routing);
}

static void a_generation_is_announced_once_and_never_a_lower_one(void **state) {
    (void)state;
    struct told told = {0};
    struct routing *routing = routing_new(on_announce, &told);
    routing_announce(routing, 3);
    routing_announce(routing, 3);
    routing_announce(routing, 2);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.generation, 3);
    routing_announce(routing, 4);
    assert_int_equal(told.count, 2);
    routing_free(routing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_gateways_there_is_nothing_to_wait_for),
        cmocka_unit_test(a_gateway_that_said_nothing_is_waited_for),
        cmocka_unit_test(acknowledged_is_less_than_alone_in_use),
        cmocka_unit_test(every_gateway_counts_and_one_that_is_gone_does_not),
        cmocka_unit_test(who_waits_is_woken_by_the_last_gateway),
        cmocka_unit_test(who_waits_is_woken_when_it_is_interrupted),
        cmocka_unit_test(a_generation_is_announced_once_and_never_a_lower_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
