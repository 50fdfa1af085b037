/* The supervisor's state as JSON, and back (RULES U1): nothing is lost, neighbours in version understand each other,
 * and what is broken is refused before anything changes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

static void begin_empty(struct supervisor *supervisor) {
    *supervisor = (struct supervisor){.settings = settings_new(),
                                      .asked = settings_new(),
                                      .lock = -1,
                                      .listener = -1,
                                      .control = -1,
                                      .alias_lock = -1,
                                      .signals = -1};
    upgrade_init(&supervisor->upgrade);
}

static void end(struct supervisor *supervisor) {
    supervisor->upgrade.previous = -1; /* a number of ours: nothing to close */
    state_forget(supervisor);
    settings_free(supervisor->settings);
    settings_free(supervisor->asked);
}

static struct child a_child(int pid, int first_descriptor) {
    return (struct child){.pid = pid,
                          .pidfd = first_descriptor,
                          .failure = first_descriptor + 1,
                          .started_ms = 111,
                          .since_ms = 1700000000123,
                          .kill_at_ms = NEVER,
                          .kill_reason = text_copy("it did not register within 60 s"),
                          .ping_at_ms = 222,
                          .pings = 7,
                          .pings_unanswered = 2,
                          .oom_kills = 3};
}

static struct replica *add_replica(struct supervisor *supervisor, const char *id) {
    struct replica *replica = mem_new(struct replica);
    process_init(&replica->process, &runner_kind);
    replica->id = text_copy(id);
    replica->deployment_id = text_copy("d-1");
    replica->deployment_name = text_copy("minilm");
    replica->package_path = text_copy("/state/packages/abc");
    replica->package_digest = text_copy("abc");
    replica->recipe_json = text_copy("{\"pooling\":\"mean\"}");
    replica->revision = 4;
    replica->threads = 2;
    replica->memory_limit_bytes = UINT64_MAX - 1;
    replica->restarts_maximum = 5;
    replica->ready_deadline_ms = 600000;
    replica->incarnation = 12;
    replica->address = text_copy("/state/run/r.12");
    replica->log_path = text_copy("/state/logs/r.log");
    replica->log_start = 4096;
    replica->process.child = a_child(4711, 40);
    replica->process.idle_priority = true;
    supervisor_add_process(supervisor, &replica->process);
    return replica;
}

static void fill(struct supervisor *supervisor) {
    begin_empty(supervisor);
    supervisor->program = text_copy("/usr/bin/slipway");
    supervisor->state = text_copy("/var/lib/slipway");
    supervisor->alias_folder = text_copy("/run/slipway-x");
    supervisor->members = text_copy("/var/lib/slipway/members");
    supervisor->lock = 3;
    supervisor->listener = 4;
    supervisor->control = 5;
    supervisor->alias_lock = 6;
    supervisor->incarnations = 99;
    supervisor->gateways = 8;
    supervisor->started_ms = 5;
    supervisor->said_ready = true;
    settings_set(supervisor->settings, "drain", "12s", NULL);
    settings_set(supervisor->settings, "token", "a \"quoted\" token", NULL);
    settings_set(supervisor->asked, "listen", "127.0.0.1:0", NULL);
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        struct role *role = supervisor->roles[i] = supervisor_add_role(supervisor, (enum role_index)i);
        role->process.child = a_child(100 + (int)i, 10 + 3 * (int)i);
        role->registered = role->ready = role->has_been_ready = true;
        role->process.deaths = i;
    }
    supervisor->roles[ROLE_GATEWAY]->gateway_id = 8;
    supervisor->roles[ROLE_GATEWAY]->generation = 21;
    supervisor->roles[ROLE_GATEWAY]->lowest = 20;
    add_replica(supervisor, "r-1")->report_json = text_copy("{\"text\":\"ä\"}");
    struct replica *dead = add_replica(supervisor, "r-2");
    free(dead->process.child.kill_reason);
    dead->process.child = (struct child){.kill_at_ms = NEVER, .ping_at_ms = NEVER};
    dead->final = dead->permanent = true;
    dead->cause = text_copy("exit status 3");
    dead->log_tail = text_copy("last\nwords");
    supervisor->upgrade.state = UPGRADE_RUNNING;
    supervisor->upgrade.from = text_copy("0.1.0");
    supervisor->upgrade.to = text_copy("0.2.0");
    supervisor->upgrade.program = text_copy("/usr/bin/slipway-new");
    supervisor->upgrade.began_at = 1700000000456;
    supervisor->upgrade.previous = 33;
}

static char *write_filled(size_t *ret_size) {
    struct supervisor supervisor;
    fill(&supervisor);
    char *json = state_write(&supervisor, ret_size);
    end(&supervisor);
    return json;
}

static int read_into(struct supervisor *supervisor, const char *json, struct error **ret_error) {
    begin_empty(supervisor);
    return state_read(supervisor, json, strlen(json), false, ret_error);
}

static void U1_what_is_written_is_read_back_whole(void **state) {
    (void)state;
    size_t size, again_size;
    _cleanup_free_ char *json = write_filled(&size);
    struct supervisor supervisor;
    assert_int_equal(read_into(&supervisor, json, NULL), 0);
    _cleanup_free_ char *again = state_write(&supervisor, &again_size);
    assert_string_equal(again, json);
    assert_int_equal(supervisor.settings->drain_ms, 12000);
    assert_string_equal(supervisor.settings->token, "a \"quoted\" token");
    const struct role *gateway = supervisor.roles[ROLE_GATEWAY];
    assert_int_equal(gateway->process.child.pid, 102);
    assert_true(gateway->process.child.kill_at_ms == NEVER);
    assert_int_equal(gateway->generation, 21);
    assert_int_equal(supervisor.lock, 3);
    assert_int_equal(supervisor.upgrade.previous, 33);
    const struct replica *replica = CONTAINER_OF(supervisor.roles[ROLE_GATEWAY]->process.next, struct replica, process);
    assert_string_equal(replica->report_json, "{\"text\":\"ä\"}");
    assert_true(replica->memory_limit_bytes == UINT64_MAX - 1);
    assert_true(replica->process.idle_priority);
    end(&supervisor);
}

static void U1_a_gateway_that_is_leaving_is_not_the_current_one(void **state) {
    (void)state;
    struct supervisor supervisor, read;
    fill(&supervisor);
    supervisor.roles[ROLE_GATEWAY]->leaving = true;
    supervisor.roles[ROLE_GATEWAY] = supervisor_add_role(&supervisor, ROLE_GATEWAY);
    supervisor.roles[ROLE_GATEWAY]->process.child = a_child(500, 50);
    size_t size;
    _cleanup_free_ char *json = state_write(&supervisor, &size);
    assert_int_equal(read_into(&read, json, NULL), 0);
    assert_int_equal(read.roles[ROLE_GATEWAY]->process.child.pid, 500);
    end(&read);
    end(&supervisor);
}

/* The text with the first `from` replaced; caller frees. */
static char *replaced(const char *json, const char *from, const char *to) {
    const char *at = strstr(json, from);
    assert_non_null(at);
    return text_format("%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
}

static void expect_refusal(const char *json, const char *why) {
    struct supervisor supervisor;
    struct error *error = NULL;
    assert_true(read_into(&supervisor, json, &error) < 0);
    _cleanup_free_ char *text = error_text(error);
    if (!strstr(text, why)) fail_msg("\"%s\" does not say \"%s\"", text, why);
    error_free(error);
    end(&supervisor);
}

static void U1_what_another_version_adds_is_passed_over_and_what_it_lacks_is_fresh(void **state) {
    (void)state;
    size_t size;
    _cleanup_free_ char *json = write_filled(&size);
    _cleanup_free_ char *more = replaced(json, "\"started_ms\":111", "\"tomorrow\":{\"a\":[1]},\"started_ms\":111");
    _cleanup_free_ char *setting = replaced(more, "\"drain\":", "\"a_setting_of_tomorrow\":\"1\",\"drain\":");
    _cleanup_free_ char *less = replaced(setting, "\"gateways\":8,", "");
    struct supervisor supervisor;
    assert_int_equal(read_into(&supervisor, less, NULL), 0);
    assert_int_equal(supervisor.gateways, 0);
    assert_int_equal(supervisor.incarnations, 99);
    end(&supervisor);
}

static void U1_what_is_broken_is_refused_and_says_where(void **state) {
    (void)state;
    size_t size;
    _cleanup_free_ char *json = write_filled(&size);
    static const struct {
        const char *from, *to, *why;
    } faults[] = {
        {"\"format\":1", "\"format\":2", "format 2"},
        {"\"format\":1", "\"format\":\"one\"", "format"},
        {"\"pid\":100", "\"pid\":\"100\"", "pid is not what it should be"},
        {"\"pid\":100", "\"pid\":99999999999", "pid is not what it should be"},
        {"\"kind\":\"indexer\"", "\"kind\":\"wizard\"", "wizard"},
        {"\"deployment_id\":\"d-1\"", "\"deployment\":\"d-1\"", "a replica lacks a field"},
        {"\"lock\":3", "\"lock\":-1", "missing"},
        {"\"drain\":\"12s\"", "\"drain\":\"soon\"", "drain"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        const char *from = faults[i].from;
        _cleanup_free_ char *drain = NULL;
        if (!strstr(json, from) && text_starts_with(from, "\"drain\"")) { /* however the value is written */
            const char *at = strstr(json, "\"drain\":");
            from = drain = text_copy_bytes(at, (size_t)(strchr(at, ',') - at));
        }
        _cleanup_free_ char *broken = replaced(json, from, faults[i].to);
        expect_refusal(broken, faults[i].why);
    }
    expect_refusal("", "state of the running service");
    expect_refusal("[]", "state of the running service");
    expect_refusal("{\"format\":1}", "state of the running service");
    _cleanup_free_ char *half = text_copy_bytes(json, size / 2);
    expect_refusal(half, "state of the running service");
}

static void U1_what_the_api_shows_of_an_upgrade(void **state) {
    (void)state;
    struct supervisor supervisor;
    fill(&supervisor);
    _cleanup_free_ char *json = upgrade_write(&supervisor);
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "state")), "running");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "from")), "0.1.0");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "running")), "/usr/bin/slipway");
    assert_null(yyjson_obj_get(root, "reason"));
    assert_null(yyjson_obj_get(root, "ended_at"));
    end(&supervisor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(U1_what_is_written_is_read_back_whole),
        cmocka_unit_test(U1_a_gateway_that_is_leaving_is_not_the_current_one),
        cmocka_unit_test(U1_what_another_version_adds_is_passed_over_and_what_it_lacks_is_fresh),
        cmocka_unit_test(U1_what_is_broken_is_refused_and_says_where),
        cmocka_unit_test(U1_what_the_api_shows_of_an_upgrade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
