#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_s3.h"
#include "registry/registry_servers.h"

/* ---- URIs ---- */

static void a_uri_names_a_bucket_a_key_and_a_version(void **state) {
    (void)state;
    static const struct {
        const char *uri, *bucket, *key, *version_id;
    } cases[] = {
        {"s3://models", "models", "", NULL},
        {"S3://models/", "models", "", NULL},
        {"s3://models/a/b", "models", "a/b", NULL},
        {"s3://models/a b%20+é?x#y", "models", "a b%20+é?x#y", NULL}, /* as it stands */
        {"s3://models/a//b/", "models", "a//b/", NULL},
        {"s3://models/m.onnx?versionId=V1", "models", "m.onnx", "V1"},
        {"s3://models/a?versionId=1?versionId=2", "models", "a?versionId=1", "2"},
        {"s3://Old_Bucket.x/k", "Old_Bucket.x", "k", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_s3_uri_ struct registry_s3_uri uri = {0};
        assert_int_equal(registry_s3_parse(cases[i].uri, &uri, NULL), 0);
        assert_string_equal(uri.bucket, cases[i].bucket);
        assert_string_equal(uri.key, cases[i].key);
        assert_true(text_equal(uri.version_id, cases[i].version_id));
    }
}

static void a_uri_that_is_none_is_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "s3:",
        "s3:/models/a",
        "s3:///a",
        "s3://?versionId=1",
        "s3://a b/c",
        "s3://../a",
        "s3://a@b/c",
        "s3://models:80/a",
        "s3://models/../other/a",
        "s3://models/a/./b",
        "s3://models/.",
        "s3://models/a\nb",
        "s3://models/\xFF",
        "s3://models/a?versionId=",
        "s3://models?versionId=1",
        "s3://models/a/?versionId=1",
        "s3://%6dodels/a",
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct registry_s3_uri uri = {0};
        assert_int_equal(registry_s3_parse(cases[i], &uri, NULL), -ERROR_CONFIGURATION);
        assert_null(uri.bucket);
    }
}

static const struct registry_servers *servers_of(const char *text, char *const *environment) {
    struct registry_servers *servers = NULL;
    struct error *error = NULL;
    if (registry_servers_new(text, text ? strlen(text) : 0, "test", environment, &servers, &error) < 0)
        fail_msg("%s", error->message);
    return servers;
}

static void a_bucket_that_no_server_has_is_refused_before_anything_is_asked(void **state) {
    (void)state;
    static const char text[] = "[s3]\nbuckets = models\n";
    struct registry_context context = {0};
    _cleanup_error_ struct error *error = NULL, *other = NULL;
    assert_int_equal(s3_registry.check(&context, "s3://models/a", &error), -ERROR_CONFIGURATION);
    assert_non_null(strstr(error->message, "s3: is not configured here"));
    const struct registry_servers *servers = servers_of(text, NULL);
    context.servers = servers;
    assert_int_equal(s3_registry.check(&context, "s3://models/a", NULL), 0);
    assert_int_equal(s3_registry.check(&context, "s3://other/a", &other), -ERROR_CONFIGURATION);
    assert_non_null(strstr(other->message, "among its buckets"));
    registry_servers_free((struct registry_servers *)servers);
}

/* ---- keys ---- */

struct files {
    char folder[64], shared[128], secret[128];
};

static int make_files(void **state) {
    static const char shared[] =
        "# comment\n"
        "[default]\naws_access_key_id=DEFAULT\naws_secret_access_key = default secret # all\n\n"
        "[ team ]\n  \n aws_access_key_id = nested is not read\n"
        "aws_access_key_id = TEAM\r\naws_secret_access_key = team/secret+=\n"
        "aws_session_token = team-token\nregion=eu-west-1\ns3 =\n  aws_access_key_id = NESTED\n"
        "[half]\naws_access_key_id = HALF\n[empty]\nregion = eu-west-1\n";
    struct files *files = mem_new(struct files);
    strcpy(files->folder, "/tmp/slipway-s3-XXXXXX");
    if (!mkdtemp(files->folder)) return -1;
    snprintf(files->shared, sizeof files->shared, "%s/credentials", files->folder);
    snprintf(files->secret, sizeof files->secret, "%s/secret", files->folder);
    *state = files;
    return fs_write_file(files->shared, shared, sizeof shared - 1, NULL) ||
           fs_write_file(files->secret, "from a file\n", 12, NULL);
}

static int remove_files(void **state) {
    struct files *files = *state;
    int result = fs_remove_tree(files->folder, NULL);
    free(files);
    return result;
}

#define ENVIRONMENT_MAXIMUM 8

struct key_case {
    const char *section, *environment[ENVIRONMENT_MAXIMUM]; /* %s: the folder */
    const char *wanted[4]; /* key, secret, token, region */
};

#define TEAM                                                                                                           \
    { "TEAM", "team/secret+=", "team-token", "eu-west-1" }
#define SHARED "AWS_SHARED_CREDENTIALS_FILE=%s/credentials"
#define PAIR "AWS_ACCESS_KEY_ID=E", "AWS_SECRET_ACCESS_KEY=e"

static const struct key_case keys[] = {
    {"[s3]\naccess_key_id=A\nsecret_access_key=b\n", {PAIR}, {"A", "b"}},
    {"[s3]\naccess_key_id=A\nsecret_access_key=b\nsession_token=c\n", {NULL}, {"A", "b", "c"}},
    {"[s3]\nregion=x\n", {PAIR, "AWS_SESSION_TOKEN=t", "AWS_PROFILE=team"}, {"E", "e", "t"}},
    {NULL, {PAIR, "AWS_SESSION_TOKEN=t"}, {"E", "e", "t"}},
    {"[s3]\nregion=x\n", {"AWS_PROFILE=team", SHARED}, TEAM},
    {NULL, {"AWS_PROFILE=team", SHARED}, TEAM},
    {"[s3]\nprofile=team\n", {"AWS_PROFILE=default", SHARED}, TEAM},
    {"[s3]\nregion=x\n", {SHARED}, {"DEFAULT", "default secret # all"}},
    {"[s3]\nregion=x\n", {"AWS_SHARED_CREDENTIALS_FILE=%s/not there"}, {NULL}},
    {"[s3]\nregion=x\n", {"HOME=%s"}, {NULL}},
    {"[s3 other]\nbuckets=models\n", {PAIR}, {NULL}},
    {"[s3 other]\nbuckets=models\n", {SHARED}, {NULL}},
    {"[s3 other]\nbuckets=models\nprofile=team\n", {SHARED}, TEAM},
};

/* With the folder in the place of each %s. */
static char **environment_of(const struct files *files, const char *const *lines) {
    char **environment = mem_new_array(ENVIRONMENT_MAXIMUM + 1, char *);
    for (size_t i = 0; i < ENVIRONMENT_MAXIMUM && lines[i]; i++) {
        const char *mark = strstr(lines[i], "%s");
        environment[i] = mark ? text_format("%.*s%s%s", (int)(mark - lines[i]), lines[i], files->folder, mark + 2)
                              : text_copy(lines[i]);
    }
    return environment;
}

static void free_environment(char **environment) {
    for (char **line = environment; *line; line++) free(*line);
    free(environment);
}

static void keys_come_from_the_first_place_that_has_them(void **state) {
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        char **environment = environment_of(*state, keys[i].environment);
        const struct registry_servers *servers = servers_of(keys[i].section, environment);
        const struct registry_server *server = registry_server_for(servers, REGISTRY_S3, "models");
        assert_non_null(server);
        _cleanup_s3_credentials_ struct registry_s3_credentials found = {0};
        assert_int_equal(registry_s3_read_credentials(servers, server, &found, NULL), 0);
        const char *values[] = {found.access_key_id, found.secret_access_key, found.session_token, found.region};
        for (size_t part = 0; part < ARRAY_SIZE(values); part++)
            if (!text_equal(values[part], keys[i].wanted[part])) fail_msg("case %zu: %s", i, values[part]);
        registry_servers_free((struct registry_servers *)servers);
        free_environment(environment);
    }
}

static void a_secret_in_a_file_is_read_anew_each_time(void **state) {
    const struct files *files = *state;
    _cleanup_free_ char *text = text_format("[s3]\naccess_key_id=A\nsecret_access_key_file=%s\n", files->secret);
    const struct registry_servers *servers = servers_of(text, NULL);
    const struct registry_server *server = registry_server_for(servers, REGISTRY_S3, "models");
    static const char *const secrets[] = {"one", "another"};
    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
        assert_int_equal(fs_write_file(files->secret, secrets[i], strlen(secrets[i]), NULL), 0);
        _cleanup_s3_credentials_ struct registry_s3_credentials found = {0};
        assert_int_equal(registry_s3_read_credentials(servers, server, &found, NULL), 0);
        assert_string_equal(found.secret_access_key, secrets[i]);
    }
    assert_int_equal(unlink(files->secret), 0);
    struct registry_s3_credentials none = {0};
    assert_int_equal(registry_s3_read_credentials(servers, server, &none, NULL), -ERROR_MODEL_REGISTRY);
    registry_servers_free((struct registry_servers *)servers);
}

static void keys_that_are_not_whole_are_refused_and_not_shown(void **state) {
    static const struct {
        const char *section, *environment[ENVIRONMENT_MAXIMUM];
        enum error_class class;
    } cases[] = {
        {"[s3]\nprofile=half\n", {"AWS_SHARED_CREDENTIALS_FILE=%s/credentials"}, ERROR_CONFIGURATION},
        {"[s3]\nprofile=empty\n", {"AWS_SHARED_CREDENTIALS_FILE=%s/credentials"}, ERROR_CONFIGURATION},
        {"[s3]\nprofile=unknown\n", {"AWS_SHARED_CREDENTIALS_FILE=%s/credentials"}, ERROR_CONFIGURATION},
        {"[s3]\nprofile=team\n", {"AWS_SHARED_CREDENTIALS_FILE=%s/not there"}, ERROR_MODEL_REGISTRY},
        {"[s3]\nprofile=team\n", {NULL}, ERROR_CONFIGURATION},
        {"[s3]\nregion=x\n", {"AWS_ACCESS_KEY_ID=HALF"}, ERROR_CONFIGURATION},
        {"[s3]\nregion=x\n", {"AWS_SECRET_ACCESS_KEY=HALF"}, ERROR_CONFIGURATION},
        {"[s3]\nregion=x\n",
         {"AWS_ACCESS_KEY_ID=E", "AWS_SECRET_ACCESS_KEY=e", "AWS_SESSION_TOKEN=a\r\nHALF: x"},
         ERROR_CONFIGURATION},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char **environment = environment_of(*state, cases[i].environment);
        const struct registry_servers *servers = servers_of(cases[i].section, environment);
        const struct registry_server *server = registry_server_for(servers, REGISTRY_S3, "models");
        struct registry_s3_credentials found = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(registry_s3_read_credentials(servers, server, &found, &error), -(int)cases[i].class);
        _cleanup_free_ char *text = error_text(error);
        assert_null(strstr(text, "HALF"));
        registry_servers_free((struct registry_servers *)servers);
        free_environment(environment);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_uri_names_a_bucket_a_key_and_a_version),
        cmocka_unit_test(a_uri_that_is_none_is_refused),
        cmocka_unit_test(a_bucket_that_no_server_has_is_refused_before_anything_is_asked),
        cmocka_unit_test_setup_teardown(keys_come_from_the_first_place_that_has_them, make_files, remove_files),
        cmocka_unit_test_setup_teardown(a_secret_in_a_file_is_read_anew_each_time, make_files, remove_files),
        cmocka_unit_test_setup_teardown(keys_that_are_not_whole_are_refused_and_not_shown, make_files, remove_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
