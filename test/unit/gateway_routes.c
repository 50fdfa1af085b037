/* Snapshots of the routes: which generation is in force, which is still used, what is told of it (R1, R2). The
 * snapshots are read from a real control database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/text.h"
#include "gateway/gateway_routes-internal.h"

struct fixture {
    char folder[64];
    char *path;
    struct store *writer;
    struct gateway_routes routes;
    size_t bound, told;
    uint64_t generation, lowest; /* what was told last */
};

static void on_bind(void *context, struct gateway_route *route) {
    struct fixture *fixture = context;
    (void)route;
    fixture->bound++;
}

static void on_unbind(void *context, struct gateway_route *route) {
    struct fixture *fixture = context;
    (void)route;
    fixture->bound--;
}

static void on_use(void *context, uint64_t generation, uint64_t lowest) {
    struct fixture *fixture = context;
    fixture->told++;
    fixture->generation = generation;
    fixture->lowest = lowest;
}

static int open_fixture(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->folder, "/tmp/slipway-test-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->path = fs_join(fixture->folder, "control.db");
    assert_int_equal(store_open(fixture->path, &fixture->writer, NULL), 0);
    fixture->routes.binder =
        (struct gateway_route_binder){.bind = on_bind, .unbind = on_unbind, .use_changed = on_use, .context = fixture};
    *state = fixture;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *fixture = *state;
    gateway_routes_close(&fixture->routes);
    assert_int_equal(fixture->bound, 0);
    store_close(fixture->writer);
    fs_remove_tree(fixture->folder, NULL);
    free(fixture->path);
    free(fixture);
    return 0;
}

static void run(struct store_transaction *transaction, const char *sql) {
    assert_int_equal(store_run(transaction, NULL, NULL, sql, ""), 0);
}

static void write_routes(struct fixture *fixture) {
    struct store_transaction *transaction;
    assert_int_equal(store_begin(fixture->writer, &transaction, NULL), 0);
    run(transaction, "INSERT INTO routes VALUES ('d1', 3), ('d2', 1)");
    run(transaction, "INSERT INTO route_replicas VALUES ('d1', 'r2'), ('d1', 'r1'), ('gone', 'r9')");
    run(transaction,
        "INSERT INTO route_names VALUES ('new', 'd1', 1), ('old', 'd1', 0), ('other', 'd2', 1), ('left', 'gone', 1)");
    run(transaction, "UPDATE routing SET generation = 7");
    assert_int_equal(store_commit(transaction, NULL), 0);
}

static struct gateway_snapshot *read_snapshot(struct fixture *fixture) {
    struct store *reader;
    struct gateway_snapshot *snapshot;
    assert_int_equal(store_open_reader(fixture->path, &reader, NULL), 0);
    assert_int_equal(gateway_snapshot_read(reader, NULL, &snapshot, NULL), 0);
    store_close(reader);
    return snapshot;
}

static struct gateway_snapshot *snapshot_of(uint64_t generation) {
    struct gateway_snapshot *snapshot = gateway_snapshot_empty();
    snapshot->generation = generation;
    return snapshot;
}

static void a_snapshot_has_what_the_database_says(void **state) {
    struct fixture *fixture = *state;
    write_routes(fixture);
    assert_true(gateway_routes_install(&fixture->routes, read_snapshot(fixture)));
    const struct gateway_snapshot *snapshot = fixture->routes.current;
    assert_int_equal(snapshot->generation, 7);
    assert_int_equal(fixture->bound, 2);

    const struct gateway_route *route = gateway_snapshot_find(snapshot, "new", 3);
    assert_string_equal(route->deployment_id, "d1");
    assert_string_equal(route->name, "new");
    assert_int_equal(route->revision, 3);
    assert_int_equal(route->replica_count, 2);
    assert_string_equal(route->replica_ids[0], "r1");
    assert_string_equal(route->replica_ids[1], "r2");
    assert_ptr_equal(gateway_snapshot_find(snapshot, "older", 3), route); /* a former name; not NUL-terminated */
    assert_ptr_equal(gateway_snapshot_find(snapshot, "d1", 2), route);
    assert_int_equal(gateway_snapshot_find(snapshot, "other", 5)->replica_count, 0);
    assert_null(gateway_snapshot_find(snapshot, "left", 4)); /* a name whose deployment has no route */
    assert_null(gateway_snapshot_find(snapshot, "", 0));
}

static void the_lowest_generation_follows_the_oldest_request(void **state) {
    struct fixture *fixture = *state;
    struct gateway_routes *routes = &fixture->routes;
    gateway_routes_install(routes, snapshot_of(1));
    assert_int_equal(fixture->told, 1);
    assert_int_equal(fixture->generation, 1);
    struct gateway_snapshot *first = gateway_routes_take(routes);
    gateway_routes_install(routes, snapshot_of(2));
    struct gateway_snapshot *second = gateway_routes_take(routes);
    gateway_routes_install(routes, snapshot_of(3));
    assert_int_equal(fixture->generation, 3);
    assert_int_equal(fixture->lowest, 1);
    assert_int_equal(fixture->told, 3);

    gateway_snapshot_release(second); /* in the middle: the lowest stays */
    assert_int_equal(fixture->told, 3);
    assert_int_equal(gateway_routes_lowest(routes), 1);
    gateway_snapshot_release(first);
    assert_int_equal(fixture->told, 4);
    assert_int_equal(fixture->generation, 3);
    assert_int_equal(fixture->lowest, 3);
}

static void an_unused_snapshot_goes_at_once_and_is_told_once(void **state) {
    struct fixture *fixture = *state;
    gateway_routes_install(&fixture->routes, snapshot_of(1));
    gateway_routes_install(&fixture->routes, snapshot_of(2));
    assert_int_equal(fixture->told, 2);
    assert_int_equal(fixture->generation, 2);
    assert_int_equal(fixture->lowest, 2);
    assert_ptr_equal(fixture->routes.oldest, fixture->routes.current);
}

static void a_generation_that_is_not_newer_changes_nothing(void **state) {
    struct fixture *fixture = *state;
    gateway_routes_install(&fixture->routes, snapshot_of(5));
    assert_false(gateway_routes_install(&fixture->routes, snapshot_of(5)));
    assert_false(gateway_routes_install(&fixture->routes, snapshot_of(4)));
    assert_int_equal(fixture->routes.current->generation, 5);
    assert_int_equal(fixture->told, 1);
}

static void several_requests_hold_one_snapshot_together(void **state) {
    struct fixture *fixture = *state;
    write_routes(fixture);
    gateway_routes_install(&fixture->routes, read_snapshot(fixture));
    struct gateway_snapshot *a = gateway_routes_take(&fixture->routes), *b = gateway_routes_take(&fixture->routes);
    gateway_routes_install(&fixture->routes, snapshot_of(8));
    gateway_snapshot_release(a);
    assert_int_equal(fixture->lowest, 7);
    assert_int_equal(fixture->bound, 2); /* its routes are still bound */
    gateway_snapshot_release(b);
    assert_int_equal(fixture->lowest, 8);
    assert_int_equal(fixture->bound, 0);
}

static void a_request_may_outlive_the_routes(void **state) {
    struct fixture *fixture = *state;
    gateway_routes_install(&fixture->routes, snapshot_of(1));
    struct gateway_snapshot *held = gateway_routes_take(&fixture->routes);
    gateway_routes_close(&fixture->routes);
    assert_null(gateway_routes_take(&fixture->routes));
    gateway_snapshot_release(held);
    assert_null(fixture->routes.oldest);
}

static void a_database_without_its_generation_is_an_error(void **state) {
    struct fixture *fixture = *state;
    struct store_transaction *transaction;
    assert_int_equal(store_begin(fixture->writer, &transaction, NULL), 0);
    run(transaction, "DELETE FROM routing");
    assert_int_equal(store_commit(transaction, NULL), 0);
    struct store *reader;
    struct gateway_snapshot *snapshot = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(store_open_reader(fixture->path, &reader, NULL), 0);
    assert_true(gateway_snapshot_read(reader, NULL, &snapshot, &error) < 0);
    assert_null(snapshot);
    assert_non_null(error);
    store_close(reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_snapshot_has_what_the_database_says),
        TEST(the_lowest_generation_follows_the_oldest_request),
        TEST(an_unused_snapshot_goes_at_once_and_is_told_once),
        TEST(a_generation_that_is_not_newer_changes_nothing),
        TEST(several_requests_hold_one_snapshot_together),
        TEST(a_request_may_outlive_the_routes),
        TEST(a_database_without_its_generation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
