/* The queue of waiting requests: order, ceiling, leaving from the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/gateway_queue-internal.h"

static void entries_leave_in_the_order_they_came(void **state) {
    (void)state;
    struct gateway_queue queue = {0};
    struct gateway_queue_entry entries[3] = {0};
    for (int i = 0; i < 3; i++) assert_true(gateway_queue_push(&queue, &entries[i]));
    assert_int_equal(queue.length, 3);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(queue.first, &entries[i]);
        gateway_queue_remove(queue.first);
    }
    assert_null(queue.first);
    assert_null(queue.last);
    assert_int_equal(queue.length, 0);
}

static void an_entry_above_the_ceiling_is_refused_and_stays_free(void **state) {
    (void)state;
    struct gateway_queue queue = {.maximum = 2};
    struct gateway_queue_entry entries[3] = {0};
    assert_true(gateway_queue_push(&queue, &entries[0]));
    assert_true(gateway_queue_push(&queue, &entries[1]));
    assert_false(gateway_queue_push(&queue, &entries[2]));
    assert_null(entries[2].queue);
    assert_int_equal(queue.length, 2);
    gateway_queue_remove(&entries[0]);
    assert_true(gateway_queue_push(&queue, &entries[2]));
    assert_ptr_equal(queue.last, &entries[2]);
}

static void one_that_had_its_turn_goes_in_front_above_the_ceiling(void **state) {
    (void)state;
    struct gateway_queue queue = {.maximum = 1};
    struct gateway_queue_entry first = {0}, again = {0};
    gateway_queue_push_first(&queue, &first);
    assert_ptr_equal(queue.last, &first);
    gateway_queue_push_first(&queue, &again);
    assert_ptr_equal(queue.first, &again);
    assert_ptr_equal(queue.last, &first);
    assert_int_equal(queue.length, 2);
}

static void any_entry_can_leave_and_the_rest_keeps_its_order(void **state) {
    (void)state;
    for (int leaving = 0; leaving < 4; leaving++) {
        struct gateway_queue queue = {0};
        struct gateway_queue_entry entries[4] = {0};
        for (int i = 0; i < 4; i++) gateway_queue_push(&queue, &entries[i]);
        gateway_queue_remove(&entries[leaving]);
        gateway_queue_remove(&entries[leaving]); /* in none: nothing */
        assert_int_equal(queue.length, 3);
        for (int i = 0; i < 4; i++) {
            if (i == leaving) continue;
            assert_ptr_equal(queue.first, &entries[i]);
            gateway_queue_remove(queue.first);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_leave_in_the_order_they_came),
        cmocka_unit_test(an_entry_above_the_ceiling_is_refused_and_stays_free),
        cmocka_unit_test(one_that_had_its_turn_goes_in_front_above_the_ceiling),
        cmocka_unit_test(any_entry_can_leave_and_the_rest_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
