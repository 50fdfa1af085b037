/* A unix socket that only the service's own user and root may use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/http_fixture.h"
#include "support/scratch.h"

#define GET_HOLD "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
#define HELLO "{\"hello\":true}"
#define NOBODY 65534

struct bed {
    struct http_fixture fixture;
    char *folder;
    struct sockaddr_un address;
    int moved;
};

static void open_door(struct bed *bed) {
    int listener = -1;
    char address[128];
    snprintf(address, sizeof address, "unix:%s", bed->address.sun_path);
    assert_int_equal(http_listen(address, &listener, NULL), 0);
    assert_int_equal(http_server_listen_local(bed->fixture.server, listener, NULL), 0);
}

static int start(void **state) {
    struct bed *bed = calloc(1, sizeof *bed);
    bed->folder = scratch_new();
    bed->moved = -1;
    chmod(bed->folder, 0711);
    bed->address.sun_family = AF_UNIX;
    snprintf(bed->address.sun_path, sizeof bed->address.sun_path, "%s/door", bed->folder);
    http_fixture_start(&bed->fixture, &http_fixture_limits);
    open_door(bed);
    *state = bed;
    return 0;
}

static int stop(void **state) {
    struct bed *bed = *state;
    http_fixture_stop(&bed->fixture);
    scratch_free(bed->folder);
    free(bed);
    return 0;
}

/* What the kernel tells of the peer is who it was when it connected. */
static int connect_as(struct bed *bed, uid_t user) {
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uid_t before = geteuid();
    assert_int_equal(seteuid(user), 0);
    int result = connect(client, (struct sockaddr *)&bed->address, sizeof bed->address);
    assert_int_equal(seteuid(before), 0);
    if (!result) return client;
    close(client);
    return -1;
}

static void expect_local(struct bed *bed, int client) {
    http_raw_say(&bed->fixture, client, GET_HOLD);
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    assert_true(bed->fixture.held->local);
    assert_string_equal(bed->fixture.held->peer, "unix");
    http_respond_json(bed->fixture.held, 200, HELLO, strlen(HELLO));
    bed->fixture.held = NULL;
    char *answer = http_raw_read_answer(&bed->fixture, client);
    assert_int_equal(http_raw_status(answer), 200);
    free(answer);
}

static void expect_refusal(struct bed *bed, int client) {
    unsigned heads = bed->fixture.heads;
    http_raw_say(&bed->fixture, client, GET_HOLD);
    char *answer = http_raw_read_all(&bed->fixture, client, &(size_t){0});
    assert_int_equal(http_raw_status(answer), 403);
    assert_non_null(strstr(answer, "UnauthorizedError"));
    assert_non_null(strstr(answer, "Connection: close"));
    assert_int_equal(bed->fixture.heads, heads);
    free(answer);
    close(client);
}

static void requests_of_the_own_user_are_local(void **state) {
    struct bed *bed = *state;
    int client = connect_as(bed, geteuid());
    expect_local(bed, client);
    expect_local(bed, client);
    close(client);
}

static void requests_over_the_port_are_not(void **state) {
    struct bed *bed = *state;
    int client = http_raw_connect(&bed->fixture);
    http_raw_say(&bed->fixture, client, GET_HOLD);
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    assert_false(bed->fixture.held->local);
    http_respond_json(bed->fixture.held, 200, HELLO, strlen(HELLO));
    close(client);
}

static void others_are_refused_by_the_files_mode_and_by_who_they_are(void **state) {
    struct bed *bed = *state;
    if (geteuid()) skip(); /* only root can be somebody else */
    assert_int_equal(connect_as(bed, NOBODY), -1);
    assert_int_equal(chmod(bed->address.sun_path, 0666), 0);
    expect_refusal(bed, connect_as(bed, NOBODY));
    int client = connect_as(bed, 0);
    expect_local(bed, client);
    close(client);
}

static void take(int descriptor, void *context) {
    ((struct bed *)context)->moved = descriptor;
}

/* Who comes from another process is asked for again: own ones stay local, strangers strangers. */
static void who_it_was_goes_with_the_connection(void **state) {
    struct bed *bed = *state;
    const uid_t users[] = {geteuid(), NOBODY};
    chmod(bed->address.sun_path, 0666);
    for (size_t i = 0; i < (geteuid() ? 1 : 2); i++) {
        int client = connect_as(bed, users[i]);
        http_fixture_wait(&bed->fixture, http_server_connections(bed->fixture.server) == 1);
        http_server_hand_over(bed->fixture.server, take, NULL, bed);
        http_fixture_wait(&bed->fixture, bed->moved >= 0);
        http_fixture_stop(&bed->fixture);
        http_fixture_start(&bed->fixture, &http_fixture_limits);
        assert_int_equal(http_server_adopt(bed->fixture.server, bed->moved, NULL), 0);
        bed->moved = -1;
        if (users[i] == geteuid()) {
            expect_local(bed, client);
            close(client);
        } else {
            expect_refusal(bed, client);
        }
        http_fixture_wait(&bed->fixture, !http_server_connections(bed->fixture.server));
        open_door(bed);
        chmod(bed->address.sun_path, 0666);
    }
}

#define local(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        local(requests_of_the_own_user_are_local),
        local(requests_over_the_port_are_not),
        local(others_are_refused_by_the_files_mode_and_by_who_they_are),
        local(who_it_was_goes_with_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
