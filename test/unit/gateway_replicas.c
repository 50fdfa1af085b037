/* Who is up, as the supervisor tells it, and which replica is chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_replicas-internal.h"

struct fixture {
    uv_loop_t loop;
    struct gateway_replicas replicas;
    struct gateway_route route;
    char *ids[2];
};

static int open_fixture(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    uv_loop_init(&fixture->loop);
    fixture->replicas =
        (struct gateway_replicas){.pool = {.loop = &fixture->loop, .idle_maximum = 1, .head_maximum = 1024},
                                  .in_flight_maximum = 2,
                                  .queue_maximum = 7};
    fixture->ids[0] = "a";
    fixture->ids[1] = "b";
    fixture->route = (struct gateway_route){
        .deployment_id = "d", .name = "m", .revision = 3, .replica_ids = fixture->ids, .replica_count = 2};
    gateway_replicas_bind(&fixture->replicas, &fixture->route);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *fixture = *state;
    gateway_replicas_close(&fixture->replicas);
    gateway_replicas_unbind(&fixture->replicas, &fixture->route);
    free(fixture->route.replicas);
    gateway_replicas_forget_lanes(&fixture->replicas, UINT64_MAX);
    assert_null(fixture->replicas.replicas);
    assert_null(fixture->replicas.lanes);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    free(fixture);
    return 0;
}

static enum gateway_pick pick(struct fixture *fixture, uint64_t now_ms, struct gateway_incarnation **ret_incarnation) {
    uint64_t until_ms = 0;
    return gateway_replicas_pick(&fixture->replicas, &fixture->route, now_ms, ret_incarnation, &until_ms);
}

static uint64_t number_up(struct fixture *fixture, size_t index) {
    const struct gateway_incarnation *up = fixture->route.replicas[index]->up;
    return up ? up->number : 0;
}

static void late_and_repeated_words_change_nothing(void **state) {
    struct fixture *fixture = *state;
    gateway_replica_up(&fixture->replicas, "a", 2, "unix:/nowhere/a.2");
    const struct gateway_incarnation *up = fixture->route.replicas[0]->up;
    gateway_replica_up(&fixture->replicas, "a", 2, "unix:/nowhere/a.2"); /* as after a second hello */
    assert_ptr_equal(fixture->route.replicas[0]->up, up);
    gateway_replica_up(&fixture->replicas, "a", 1, "unix:/nowhere/a.1");
    assert_int_equal(number_up(fixture, 0), 2);
    gateway_replica_down(&fixture->replicas, "a", 1);
    assert_int_equal(number_up(fixture, 0), 2);
    gateway_replica_down(&fixture->replicas, "a", 2);
    assert_int_equal(number_up(fixture, 0), 0);
    gateway_replica_up(&fixture->replicas, "a", 1, "unix:/nowhere/a.1"); /* its end was told before its beginning */
    assert_int_equal(number_up(fixture, 0), 0);
    gateway_replica_down(&fixture->replicas, "unheard of", 1);
}

static void a_new_incarnation_takes_the_place_of_the_old(void **state) {
    struct fixture *fixture = *state;
    struct gateway_incarnation *old, *new;
    gateway_replica_up(&fixture->replicas, "a", 1, "unix:/nowhere/a.1");
    assert_int_equal(pick(fixture, 0, &old), GATEWAY_PICKED);
    gateway_replica_up(&fixture->replicas, "a", 2, "unix:/nowhere/a.2");
    assert_int_equal(number_up(fixture, 0), 2);
    assert_null(old->replica); /* its requests still hold it */
    assert_null(old->pool);
    assert_int_equal(pick(fixture, 0, &new), GATEWAY_PICKED);
    assert_int_equal(new->number, 2);
    assert_int_equal(new->in_flight, 1);
    gateway_incarnation_release(old);
    assert_int_equal(new->in_flight, 1);
    gateway_incarnation_release(new);
}

static void a_replica_may_be_up_before_any_route_names_it(void **state) {
    struct fixture *fixture = *state;
    gateway_replica_up(&fixture->replicas, "c", 1, "unix:/nowhere/c.1");
    assert_false(gateway_route_is_up(&fixture->route));
    char *ids[] = {"c"};
    struct gateway_route other = {
        .deployment_id = "e", .name = "n", .revision = 1, .replica_ids = ids, .replica_count = 1};
    gateway_replicas_bind(&fixture->replicas, &other);
    assert_true(gateway_route_is_up(&other));
    gateway_replicas_unbind(&fixture->replicas, &other);
    free(other.replicas);
}

static void what_hinders_a_choice_is_told(void **state) {
    struct fixture *fixture = *state;
    struct gateway_incarnation *taken[5];
    uint64_t until_ms = 0;
    assert_int_equal(pick(fixture, 1000, &taken[0]), GATEWAY_NONE_UP);
    gateway_replica_up(&fixture->replicas, "a", 1, "unix:/nowhere/a.1");
    gateway_replica_up(&fixture->replicas, "b", 1, "unix:/nowhere/b.1");
    for (size_t i = 0; i < 4; i++) assert_int_equal(pick(fixture, 1000, &taken[i]), GATEWAY_PICKED);
    assert_int_equal(pick(fixture, 1000, &taken[4]), GATEWAY_ALL_BUSY);
    for (size_t i = 0; i < 4; i++) gateway_incarnation_release(taken[i]);

    gateway_incarnation_suspect(fixture->route.replicas[0]->up, 1000);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pick(fixture, 1000, &taken[i]), GATEWAY_PICKED);
        assert_ptr_equal(taken[i], fixture->route.replicas[1]->up); /* never the suspect */
    }
    for (size_t i = 0; i < 2; i++) gateway_incarnation_release(taken[i]);
    gateway_incarnation_suspect(fixture->route.replicas[1]->up, 1050);
    assert_int_equal(gateway_replicas_pick(&fixture->replicas, &fixture->route, 1100, &taken[0], &until_ms),
                     GATEWAY_SUSPECT);
    assert_int_equal(until_ms, 1000 + GATEWAY_SUSPECT_MS);
    assert_int_equal(pick(fixture, until_ms, &taken[0]), GATEWAY_PICKED); /* it is given another chance */
    assert_ptr_equal(taken[0], fixture->route.replicas[0]->up);
    gateway_incarnation_release(taken[0]);
}

static void equally_busy_replicas_take_turns(void **state) {
    struct fixture *fixture = *state;
    gateway_replica_up(&fixture->replicas, "a", 1, "unix:/nowhere/a.1");
    gateway_replica_up(&fixture->replicas, "b", 1, "unix:/nowhere/b.1");
    size_t counts[2] = {0};
    for (size_t i = 0; i < 10; i++) {
        struct gateway_incarnation *taken;
        assert_int_equal(pick(fixture, 0, &taken), GATEWAY_PICKED);
        counts[taken == fixture->route.replicas[1]->up]++;
        gateway_incarnation_release(taken);
    }
    assert_int_equal(counts[0], 5);
    assert_int_equal(counts[1], 5);
}

static void a_lane_is_shared_by_the_snapshots_that_name_its_revision(void **state) {
    struct fixture *fixture = *state;
    struct gateway_route again = fixture->route, next = fixture->route;
    again.name = "renamed";
    next.revision = 4;
    gateway_replicas_bind(&fixture->replicas, &again);
    gateway_replicas_bind(&fixture->replicas, &next);
    assert_ptr_equal(again.lane, fixture->route.lane);
    assert_string_equal(again.lane->name, "renamed");
    assert_int_equal(again.lane->queue.maximum, 7);
    assert_ptr_not_equal(next.lane, fixture->route.lane);
    gateway_replicas_unbind(&fixture->replicas, &again);
    gateway_replicas_unbind(&fixture->replicas, &next);
    free(again.replicas);
    free(next.replicas);
}

static void figures_outlive_their_route_for_a_while(void **state) {
    struct fixture *fixture = *state;
    struct gateway_route next = fixture->route;
    next.revision = 4;
    gateway_replicas_bind(&fixture->replicas, &next);
    next.lane->series.retries = 5;
    gateway_replicas_unbind(&fixture->replicas, &next);
    free(next.replicas);
    uint64_t left_ms = next.lane->left_ms;
    gateway_replicas_forget_lanes(&fixture->replicas, left_ms + GATEWAY_LANE_KEPT_MS - 1);
    gateway_replicas_bind(&fixture->replicas, &next); /* a rollback */
    assert_int_equal(next.lane->series.retries, 5);
    gateway_replicas_forget_lanes(&fixture->replicas, left_ms + GATEWAY_LANE_KEPT_MS); /* it has a route */
    assert_int_equal(HASH_COUNT(fixture->replicas.lanes), 2);
    gateway_replicas_unbind(&fixture->replicas, &next);
    free(next.replicas);
    gateway_replicas_forget_lanes(&fixture->replicas, next.lane->left_ms + GATEWAY_LANE_KEPT_MS);
    assert_int_equal(HASH_COUNT(fixture->replicas.lanes), 1);
}

static void no_two_lanes_have_one_name_and_revision(void **state) {
    struct fixture *fixture = *state;
    struct gateway_route second = fixture->route, third = fixture->route;
    second.deployment_id = "e"; /* another deployment took the name */
    third.deployment_id = "f";
    gateway_replicas_bind(&fixture->replicas, &second);
    assert_string_equal(second.lane->name, "m");
    assert_string_equal(fixture->route.lane->name, "d"); /* requests may still hold it: it goes by its id */
    gateway_replicas_unbind(&fixture->replicas, &second);
    free(second.replicas);
    gateway_replicas_bind(&fixture->replicas, &third);
    assert_string_equal(third.lane->name, "m");
    assert_int_equal(HASH_COUNT(fixture->replicas.lanes), 2); /* nobody held the second */
    gateway_replicas_unbind(&fixture->replicas, &third);
    free(third.replicas);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(late_and_repeated_words_change_nothing),
        TEST(a_new_incarnation_takes_the_place_of_the_old),
        TEST(a_replica_may_be_up_before_any_route_names_it),
        TEST(what_hinders_a_choice_is_told),
        TEST(equally_busy_replicas_take_turns),
        TEST(a_lane_is_shared_by_the_snapshots_that_name_its_revision),
        TEST(figures_outlive_their_route_for_a_while),
        TEST(no_two_lanes_have_one_name_and_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
