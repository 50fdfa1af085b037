/* What goes after its time, and what stays because something unfinished needs it; which unused packages stay. Times are
 * set in the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/engine_bed.h"
#include "support/scratch.h"

/* SQL that is made here: a statement is known by its address, so each stays until the bed has gone. */
static struct {
    char *texts[64];
    size_t count;
} made;

static const char *keep(char *sql) {
    assert_true(made.count < ARRAY_SIZE(made.texts));
    return made.texts[made.count++] = sql;
}

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    bed_add_model(bed, "one", NULL);
    bed_add_model(bed, "two", NULL);
    bed_add_model(bed, "three", NULL);
    bed->settings->task_retention_ms = bed->settings->event_retention_ms = 60000;
    bed->settings->idempotency_retention_ms = bed->settings->inactive_retention_ms = 60000;
    bed_open(bed);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    while (made.count) free(made.texts[--made.count]);
    return 0;
}

static void run_retention(struct engine_bed *bed) {
    struct error *error = NULL;
    int result = retention_run(&bed->controller, &error);
    _cleanup_free_ char *text = error_text(error);
    if (result < 0) fail_msg("%s", text);
    error_free(error);
}

static char *delete_and_wait(struct engine_bed *bed, const char *id) {
    char *task = bed_delete_deployment(bed, id);
    bed_expect_task(bed, task, TASK_DONE);
    return task;
}

#define OLD "1000" /* a wall clock of 1970 */

/* ---- tasks ---- */

static void add_task(struct engine_bed *bed, const char *id, const char *kind, const char *status) {
    const char *sql = keep(text_format(
        "INSERT INTO tasks (id, kind, status, not_before, created_at, updated_at) VALUES (?, '%s', '%s', %lld, " OLD
        ", " OLD ")",
        kind, status, (long long)clock_wall_ms() + 3600000));
    bed_run(bed, sql, id);
}

static int64_t has_task(struct engine_bed *bed, const char *id) {
    return bed_ask(bed, "SELECT count(*) FROM tasks WHERE id = ?", id);
}

static void a_finished_task_goes_after_its_time_with_its_failed_items(void **state) {
    struct engine_bed *bed = *state;
    add_task(bed, "old", "reindex", "failed");
    bed_run(bed, "INSERT INTO task_failed_items VALUES (?, 1, 'd', 'inference', 'no')", "old");
    run_retention(bed);
    assert_int_equal(has_task(bed, "old"), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM task_failed_items", NULL), 0);
}

static void a_task_that_has_just_ended_stays(void **state) {
    struct engine_bed *bed = *state;
    add_task(bed, "new", "scale", "done");
    bed_run(bed, "UPDATE tasks SET updated_at = strftime('%s', 'now') * 1000 WHERE id = ?", "new");
    run_retention(bed);
    assert_int_equal(has_task(bed, "new"), 1);
}

static void parents_and_children_of_an_unfinished_task_stay(void **state) {
    struct engine_bed *bed = *state;
    add_task(bed, "parent", "reindex", "pending");
    add_task(bed, "child", "deploy", "done");
    bed_run(bed, "UPDATE tasks SET parent_id = 'parent' WHERE id = ?", "child");
    add_task(bed, "done-parent", "update", "done");
    add_task(bed, "waiting-child", "retire", "pending");
    bed_run(bed, "UPDATE tasks SET parent_id = 'done-parent' WHERE id = ?", "waiting-child");
    run_retention(bed);
    assert_int_equal(has_task(bed, "parent"), 1);
    assert_int_equal(has_task(bed, "child"), 1);
    assert_int_equal(has_task(bed, "done-parent"), 1);
    assert_int_equal(has_task(bed, "waiting-child"), 1);
    bed_run(bed, "UPDATE tasks SET status = 'canceled' WHERE status = ?", "pending");
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM tasks", NULL), 0);
}

static void the_deploy_task_of_a_deployment_that_lives_stays(void **state) {
    struct engine_bed *bed = *state;
    char *id = NULL;
    struct bed_request request = {.name = "minilm", .model = "one"};
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task, TASK_DONE);
    bed_run(bed, "UPDATE tasks SET updated_at = " OLD, NULL);
    run_retention(bed);
    assert_int_equal(has_task(bed, task), 1);
    free(delete_and_wait(bed, id));
    bed_run(bed, "UPDATE tasks SET updated_at = " OLD, NULL);
    run_retention(bed);
    assert_int_equal(has_task(bed, task), 0);
    free(id);
}

/* ---- events, keys, tokens, deployments ---- */

static void events_go_but_the_newest_so_that_no_id_is_given_twice(void **state) {
    struct engine_bed *bed = *state;
    free(bed_deployed(bed, "minilm", "one", 1));
    int64_t newest = bed_ask(bed, "SELECT max(id) FROM events", NULL);
    bed_run(bed, "UPDATE events SET at = " OLD, NULL);
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM events", NULL), 1);
    assert_int_equal(bed_ask(bed, "SELECT id FROM events", NULL), newest);
}

static void idempotency_keys_and_revoked_tokens_go_after_their_time(void **state) {
    struct engine_bed *bed = *state;
    bed_run(bed, "INSERT INTO idempotency_keys VALUES (?, 'd', 'x', '{}', " OLD ")", "old");
    bed_run(bed, "INSERT INTO idempotency_keys VALUES (?, 'd', 'x', '{}', strftime('%s', 'now') * 1000)", "new");
    static const char *const tokens[][2] = {{"revoked", OLD}, {"revoked-now", "4102444800000"}, {"valid", "NULL"}};
    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
        bed_run(
            bed,
            keep(text_format("INSERT INTO tokens (id, name, digest, role, rate_milli, burst, created_at, revoked_at) "
                             "VALUES (?, 'n%zu', 'd%zu', 'read', 0, 0, " OLD ", %s)",
                             i, i, tokens[i][1])),
            tokens[i][0]);
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM idempotency_keys WHERE key = 'old'", NULL), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM idempotency_keys WHERE key = 'new'", NULL), 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM tokens WHERE id = 'revoked'", NULL), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM tokens", NULL), 2);
}

static void a_deleted_deployment_goes_with_its_revisions_unless_a_task_works_on_it(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    free(delete_and_wait(bed, id));
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM deployments", NULL), 1);
    bed_run(bed, "UPDATE deployments SET deleted_at = " OLD, NULL);
    add_task(bed, "works", "retire", "pending");
    bed_run(bed, "UPDATE tasks SET deployment_id = ? WHERE id = 'works'", id);
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM deployments", NULL), 1);
    bed_run(bed, "DELETE FROM tasks WHERE id = ?", "works");
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM deployments", NULL), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM revisions", NULL), 0);
}

/* ---- packages ---- */

static void set_sizes(struct engine_bed *bed, int64_t bytes) {
    bed_run(bed, keep(text_format("UPDATE packages SET size_bytes = %lld", (long long)bytes)), NULL);
}

static char *deploy_and_delete(struct engine_bed *bed, const char *model, const char *used_at) {
    _cleanup_free_ char *id = bed_deployed(bed, model, model, 1);
    char *digest = bed_ask_text(bed, "SELECT package_digest FROM revisions WHERE deployment_id = ?", id);
    set_sizes(bed, 100);
    free(delete_and_wait(bed, id));
    if (used_at) bed_run(bed, keep(text_format("UPDATE packages SET used_at = %s WHERE digest = ?", used_at)), digest);
    return digest;
}

static bool is_there(struct engine_bed *bed, const char *digest) {
    _cleanup_free_ char *path = NULL;
    bool on_disk = bed->controller.packages->locate(bed->controller.package_store, digest, &path, NULL) >= 0;
    int64_t rows = bed_ask(bed, "SELECT count(*) FROM packages WHERE digest = ?", digest);
    assert_int_equal(on_disk, rows);
    return on_disk;
}

static void without_a_budget_a_package_leaves_when_nothing_uses_it(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *digest = deploy_and_delete(bed, "one", NULL);
    assert_false(is_there(bed, digest));
}

static void S6_the_package_that_is_unused_for_longest_leaves_first(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->package_budget = 250;
    _cleanup_free_ char *one = deploy_and_delete(bed, "one", "2000"), *two = deploy_and_delete(bed, "two", OLD);
    assert_true(is_there(bed, one) && is_there(bed, two));
    _cleanup_free_ char *three = deploy_and_delete(bed, "three", NULL);
    assert_false(is_there(bed, two));
    assert_true(is_there(bed, one) && is_there(bed, three));
    bed->settings->package_budget = 100; /* read anew */
    run_retention(bed);
    assert_false(is_there(bed, one));
    assert_true(is_there(bed, three));
}

static void a_package_that_is_larger_than_the_budget_pushes_no_other_out(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->package_budget = 250;
    _cleanup_free_ char *one = deploy_and_delete(bed, "one", OLD);
    _cleanup_free_ char *id = bed_deployed(bed, "two", "two", 1);
    _cleanup_free_ char *two = bed_ask_text(bed, "SELECT package_digest FROM revisions WHERE deployment_id = ?", id);
    bed_run(bed, "UPDATE packages SET size_bytes = 1000 WHERE digest = ?", two);
    free(delete_and_wait(bed, id));
    assert_false(is_there(bed, two));
    assert_true(is_there(bed, one));
}

static void S6_a_package_that_is_used_stays_whatever_the_budget(void **state) {
    struct engine_bed *bed = *state;
    free(bed_deployed(bed, "one", "one", 1));
    set_sizes(bed, 1000);
    bed->settings->package_budget = 1;
    run_retention(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 1);
    bed_check_consistent(bed);
}

static void an_unused_package_outlives_a_restart_and_is_used_again_without_a_fetch(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->package_budget = 1000;
    _cleanup_free_ char *digest = deploy_and_delete(bed, "one", NULL);
    bed_close(bed);
    bed_open(bed);
    assert_true(is_there(bed, digest));
    _cleanup_free_ char *uri = text_format("package:sha256:%s", digest), *id = NULL;
    struct bed_request request = {.name = "again", .model = "two"};
    bed_hold_at(bed, "fetch");
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_wait_held(bed);
    bed_run(bed, "UPDATE revisions SET model_uri = ?", uri);
    bed_release(bed);
    bed_expect_task(bed, task, TASK_DONE);
    assert_int_equal(bed_ask(bed,
                             "SELECT count(*) FROM events WHERE kind = 'package' AND message LIKE '%it was here' AND "
                             "deployment_id = ?",
                             id),
                     1);
    bed->settings->package_budget = 0;
    run_retention(bed);
    assert_true(is_there(bed, digest));
}

static void an_unused_package_whose_files_are_gone_is_forgotten_at_the_start(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->package_budget = 1000;
    _cleanup_free_ char *digest = deploy_and_delete(bed, "one", NULL);
    struct error *error = NULL;
    assert_true(bed->controller.packages->remove(bed->controller.package_store, digest, &error) >= 0);
    bed_close(bed);
    bed_open(bed);
    assert_false(is_there(bed, digest));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_finished_task_goes_after_its_time_with_its_failed_items),
        TEST(a_task_that_has_just_ended_stays),
        TEST(parents_and_children_of_an_unfinished_task_stay),
        TEST(the_deploy_task_of_a_deployment_that_lives_stays),
        TEST(events_go_but_the_newest_so_that_no_id_is_given_twice),
        TEST(idempotency_keys_and_revoked_tokens_go_after_their_time),
        TEST(a_deleted_deployment_goes_with_its_revisions_unless_a_task_works_on_it),
        TEST(without_a_budget_a_package_leaves_when_nothing_uses_it),
        TEST(S6_the_package_that_is_unused_for_longest_leaves_first),
        TEST(a_package_that_is_larger_than_the_budget_pushes_no_other_out),
        TEST(S6_a_package_that_is_used_stays_whatever_the_budget),
        TEST(an_unused_package_outlives_a_restart_and_is_used_again_without_a_fetch),
        TEST(an_unused_package_whose_files_are_gone_is_forgotten_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
