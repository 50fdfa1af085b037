/* Admission's arithmetic over rows: what a replica is reckoned to need, what is free, what is evicted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/engine_bed.h"

#define MIB (1ull << 20)

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    bed_open(bed);
    bed_run(
        bed,
        "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at) VALUES ('new', 104857600, 3, 1, 1)",
        NULL);
    bed_run(bed,
            "INSERT INTO packages (digest, size_bytes, file_count, seen_memory_bytes, created_at, used_at) "
            "VALUES ('seen', 104857600, 3, 209715200, 1, 1)",
            NULL);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static int check(struct engine_bed *bed, const char *digest, int64_t given, int64_t count, struct admission *admission,
                 struct error **error) {
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    int result = admission_check(&bed->controller, tx, digest, given, count, admission, error);
    store_rollback(tx);
    return result;
}

static void reserve(struct engine_bed *bed, const char *id, const char *state, int64_t bytes) {
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    assert_int_equal(
        store_run(tx, NULL, NULL,
                  "INSERT INTO replicas (id, deployment_id, revision, task_id, state, reserved_bytes, cpu, "
                  "memory_limit_bytes, warm_until, created_at) VALUES (?, 'd', 1, 't', ?, ?, 0, 0, 9, 1)",
                  "tti", id, state, bytes),
        0);
    assert_int_equal(store_commit(tx, NULL), 0);
}

static void an_unseen_package_needs_64_mib_and_twice_its_size(void **state) {
    struct admission admission = {0};
    assert_int_equal(check(*state, "new", 0, 1, &admission, NULL), 0);
    assert_int_equal(admission.needed_bytes, 264 * MIB);
    assert_int_equal(admission.budget_bytes, 1024 * MIB);
    assert_int_equal(admission.free_bytes, 1024 * MIB);
    assert_non_null(strstr(admission.explanation, "64 MiB + 2 ×"));
    free(admission.explanation);
    assert_int_equal(admission_estimate(UINT64_MAX, 0), UINT64_MAX >> 1); /* no overflow */
}

static void a_package_that_was_seen_needs_what_it_was_seen_to_use(void **state) {
    struct admission admission = {0};
    assert_int_equal(check(*state, "seen", 0, 1, &admission, NULL), 0);
    assert_int_equal(admission.needed_bytes, 200 * MIB);
    free(admission.explanation);
}

static void given_memory_is_the_reservation_and_must_be_enough(void **state) {
    struct admission admission = {0};
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(check(*state, "seen", 300 * MIB, 1, &admission, NULL), 0);
    assert_int_equal(admission.needed_bytes, 300 * MIB);
    free(admission.explanation);
    assert_int_equal(check(*state, "seen", 100 * MIB, 1, &admission, &error), -ERROR_REFUSED);
    assert_non_null(strstr(error->message, "100"));
    assert_non_null(strstr(error->message, "200"));
}

static void every_replica_is_counted_up_to_the_last_byte(void **state) {
    struct admission admission = {0};
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(check(*state, "seen", 256 * MIB, 4, &admission, NULL), 0);
    free(admission.explanation);
    assert_int_equal(check(*state, "seen", 256 * MIB + 1, 4, &admission, &error), -ERROR_REFUSED);
    assert_non_null(strstr(error->message, "4 replicas"));
}

static void all_but_warm_replicas_count_against_a_newcomer(void **state) {
    struct engine_bed *bed = *state;
    struct admission admission = {0};
    reserve(bed, "serves", "serving", 300 * MIB);
    reserve(bed, "leaves", "stopping", 200 * MIB);
    reserve(bed, "warm", "warm", 500 * MIB);
    assert_int_equal(check(bed, "seen", 0, 2, &admission, NULL), 0);
    assert_int_equal(admission.free_bytes, 524 * MIB);
    free(admission.explanation);
    assert_int_equal(check(bed, "seen", 0, 3, &admission, NULL), -ERROR_REFUSED);
}

static void a_budget_that_was_lowered_leaves_nothing_free(void **state) {
    struct engine_bed *bed = *state;
    struct admission admission = {0};
    reserve(bed, "serves", "serving", 300 * MIB);
    fake_target_set_budget(bed->target, 100 * MIB);
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(check(bed, "seen", 0, 1, &admission, &error), -ERROR_REFUSED);
    assert_non_null(strstr(error->message, "0 "));
}

static void a_count_that_overflows_is_refused(void **state) {
    struct admission admission = {0};
    assert_int_equal(check(*state, "seen", INT64_MAX, INT64_MAX, &admission, NULL), -ERROR_REFUSED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(an_unseen_package_needs_64_mib_and_twice_its_size),
        T(a_package_that_was_seen_needs_what_it_was_seen_to_use),
        T(given_memory_is_the_reservation_and_must_be_enough),
        T(every_replica_is_counted_up_to_the_last_byte),
        T(all_but_warm_replicas_count_against_a_newcomer),
        T(a_budget_that_was_lowered_leaves_nothing_free),
        T(a_count_that_overflows_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
