/* The registries file: what it says of servers, every fault with its line, and no secret in an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers.h"

static char *const nothing[] = {NULL};

static int read_text(const char *text, char *const *environment, struct registry_servers **ret_servers,
                     struct error **ret_error) {
    return registry_servers_new(text, text ? strlen(text) : 0, "registries", environment, ret_servers, ret_error);
}

static struct registry_servers *must_read(const char *text, char *const *environment) {
    struct registry_servers *servers = NULL;
    _cleanup_error_ struct error *error = NULL;
    if (read_text(text, environment, &servers, &error) < 0) {
        _cleanup_free_ char *message = error_text(error);
        fail_msg("%s", message);
    }
    return servers;
}

/* ---- the file ---- */

static void a_file_says_what_servers_there_are(void **state) {
    (void)state;
    struct registry_servers *servers = must_read("\xef\xbb\xbf# servers\n"
                                                 "[http mirror]\n"
                                                 "hosts = models.example.com, *.cdn.example.com  [::1]:9000\r\n"
                                                 "redirect-hosts = edge.example.com\n"
                                                 "\n"
                                                 "; tracking\n"
                                                 "[mlflow]\n"
                                                 "url = https://track.example.com/base/\n"
                                                 "username = anna\n"
                                                 "password = a;b # c = d\n"
                                                 "[ mlflow   lab ]\n"
                                                 "url=http://localhost:5000\n"
                                                 "token_file = /run/token\n"
                                                 "[s3 lake]\n"
                                                 "endpoint = http://localhost:7070\nregion = eu-1\npath_style = yes\n"
                                                 "access_key_id = AK\nsecret_access_key_file = /run/key\n"
                                                 "buckets = models, more\n"
                                                 "[oci depot]\nhosts = localhost:5000\nplain_http = true",
                                                 nothing);
    assert_int_equal(servers->count, 5);
    const struct registry_server *mirror = registry_server_named(servers, REGISTRY_HTTP, "mirror");
    assert_string_equal(mirror->hosts[0], "models.example.com");
    assert_string_equal(mirror->hosts[2], "[::1]:9000");
    assert_null(mirror->hosts[3]);
    assert_string_equal(mirror->redirect_hosts[0], "edge.example.com");
    const struct registry_server *tracking = registry_server_named(servers, REGISTRY_MLFLOW, NULL);
    assert_string_equal(tracking->url, "https://track.example.com/base");
    assert_string_equal(tracking->password, "a;b # c = d");
    assert_string_equal(registry_server_named(servers, REGISTRY_MLFLOW, "lab")->token_file, "/run/token");
    const struct registry_server *lake = registry_server_named(servers, REGISTRY_S3, "lake");
    assert_true(lake->path_style);
    assert_string_equal(lake->username, "AK");
    assert_string_equal(lake->password_file, "/run/key");
    assert_true(registry_server_named(servers, REGISTRY_OCI, "depot")->plain_http);
    assert_null(registry_server_named(servers, REGISTRY_OCI, "lake"));
    assert_null(registry_server_named(NULL, REGISTRY_OCI, ""));
    registry_servers_free(servers);
}

static void a_fault_names_the_file_the_line_and_what_would_be_right(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"[mlflow]\nurl = http://a\nusrname = x\n",
         "registries, line 3: an [mlflow] section has no key usrname; did you mean username?"},
        {"[mlflow]\nurl = http://a\nregion = x\n", "line 3: an [mlflow] section has no key region"},
        {"\n\n[mlfow]\n", "registries, line 3: there is no section [mlfow], did you mean [mlflow]?"},
        {"[gopher x]\n", "line 1: there is no section [gopher]; there are [http NAME]"},
        {"[mlflow\n", "line 1: the section does not end with ]"},
        {"[s3 a/b]\n", "line 1: the name of the section"},
        {"[s3 a b]\n", "line 1: the name of the section"},
        {"url = x\n", "line 1: a key stands before the first section"},
        {"[mlflow]\nurl\n", "line 2: the line is neither [section] nor key = value"},
        {"[mlflow]\n= x\n", "line 2: the line is neither"},
        {"[mlflow]\nurl =\n", "line 2: url has no value"},
        {"[mlflow]\nurl = ftp://a\n", "line 2: url is not a URL that begins with http:// or https://"},
        {"[mlflow]\nurl = http://u:hunter2@a\n", "line 2: url has a user or password in the URL"},
        {"[mlflow]\nurl = http://a/?token=hunter2\n", "line 2: url is not a URL of the form"},
        {"[mlflow]\nurl = http:///x\n", "line 2: url is not a URL of the form"},
        {"[mlflow]\nurl = http://a:99999\n", "line 2: url is not a URL of the form"},
        {"[mlflow]\nurl = http://a\nurl = http://b\n", "line 3: url is there a second time"},
        {"[mlflow]\nurl = http://a\n[mlflow]\n", "line 3: the section [mlflow] is there a second time"},
        {"[mlflow]\n\n[s3]\n", "registries, line 1: section [mlflow]: url is missing"},
        {"# x\n[http a]\n", "registries, line 2: section [http a]: hosts is missing"},
        {"[oci a]\nhosts = ,\n", "section [oci a]: hosts is missing"},
        {"[oci a]\nhosts = b, http://c\n", "line 2: hosts: entry 2 is not a host like"},
        {"[oci a]\nhosts = b/c\n", "hosts: entry 1 is not a host"},
        {"[oci a]\nhosts = u@b\n", "hosts: entry 1 is not a host"},
        {"[oci a]\nhosts = [::1\n", "hosts: entry 1 is not a host"},
        {"[oci a]\nhosts = b:0\n", "hosts: entry 1 is not a host"},
        {"[oci a]\nhosts = b\nplain_http = maybe\n", "line 3: plain_http is neither true nor false"},
        {"[oci a]\nhosts = b\npassword_file = secret\n",
         "line 3: password_file: give the file's path from the root on"},
        {"[oci a]\nhosts = b\nusername = u\n", "section [oci a]: username is given without password"},
        {"[oci a]\nhosts = b\npassword = hunter2\n", "section [oci a]: password is given without username"},
        {"[oci a]\nhosts = b\nusername = u\npassword = hunter2\npassword_file = /x\n", "password_file are both given"},
        {"[oci a]\nhosts = b\nusername = u\npassword = hunter2\ntoken = hunter2\n",
         "username and token are both given"},
        {"[oci a]\nhosts = b\n[oci c]\nhosts = d B\n", "line 3: section [oci c]: the host B is in [oci a] too"},
        {"[s3 a]\nbuckets = b\n[s3 c]\nbuckets = b\n", "line 3: section [s3 c]: the bucket b is in [s3 a] too"},
        {"[s3]\n[s3 c]\n", "line 2: section [s3 c]: neither this nor [s3] names its buckets"},
        {"[s3]\naccess_key_id = x\n", "access_key_id is given without secret_access_key"},
        {"[s3]\nsession_token = hunter2\n", "session_token is given without access_key_id"},
        {"[s3]\nprofile = x\naccess_key_id = x\nsecret_access_key = hunter2\n", "profile and access_key_id are both"},
        {"[mlflow]\nurl = http://a\ntoken = hun\x01ter2\n", "line 3: the value of token has a control character"},
        {"[mlflow]\nurl = http://a\ntoken = hunter2\xff\n", "line 3: the line is not UTF-8 text"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct registry_servers *servers = NULL;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(read_text(cases[i].text, nothing, &servers, &error), -(int)ERROR_CONFIGURATION);
        assert_null(servers);
        _cleanup_free_ char *message = error_text(error);
        if (!strstr(message, cases[i].expected)) fail_msg("%s: not \"%s\"", message, cases[i].expected);
        if (strstr(message, "hunter2")) fail_msg("a secret is shown: %s", message);
    }
}

static void a_secret_in_the_wrong_place_is_not_shown(void **state) {
    (void)state;
    static const char *const cases[] = {
        "[mlflow]\nurl = http://a\nHunter2==\n", /* a secret of two lines */
        "[mlflow]\nurl = http://a\nHunter2\n",
        "[Hunter2]\n",
        "[mlflow]\nurl = http://a\npassword Hunter2\n",
        "[mlflow Hunter2/x]\n",
        "[mlflow]\nurl = Hunter2\n",
        "[oci a]\nhosts = Hunter2@b\n",
        "[oci a]\nhosts = b\nca_file = Hunter2\n",
        "[oci a]\nhosts = b\nplain_http = Hunter2\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct registry_servers *servers = NULL;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(read_text(cases[i], nothing, &servers, &error), -(int)ERROR_CONFIGURATION);
        _cleanup_free_ char *message = error_text(error);
        if (strstr(message, "Hunter2")) fail_msg("%s", message);
    }
}

static void the_number_of_servers_and_hosts_has_a_ceiling(void **state) {
    (void)state;
    char text[40000] = "";
    size_t size = 0;
    for (int i = 0; i <= 1000; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "[s3 n%d]\nbuckets=b%d\n", i, i);
    struct registry_servers *servers = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(read_text(text, nothing, &servers, &error), -(int)ERROR_CONFIGURATION);
    assert_non_null(strstr(error->cause->message, "more than 1000 sections"));
    size = (size_t)snprintf(text, sizeof text, "[oci a]\nhosts =");
    for (int i = 0; i <= 1000; i++) size += (size_t)snprintf(text + size, sizeof text - size, " h%d", i);
    _cleanup_error_ struct error *longer = NULL;
    assert_int_equal(read_text(text, nothing, &servers, &longer), -(int)ERROR_CONFIGURATION);
    assert_non_null(strstr(longer->cause->message, "hosts has more than 1000 entries"));
}

/* ---- finding ---- */

static void a_host_and_a_bucket_find_their_server(void **state) {
    (void)state;
    struct registry_servers *servers = must_read("[http a]\nhosts = a.example.com\n[http b]\nhosts = *.example.com\n"
                                                 "[oci c]\nhosts = localhost:5000\n"
                                                 "[s3]\n[s3 lake]\nbuckets = models\n",
                                                 nothing);
    assert_string_equal(registry_server_for(servers, REGISTRY_HTTP, "https://a.example.com/x")->name, "a");
    assert_string_equal(registry_server_for(servers, REGISTRY_HTTP, "https://z.example.com/x")->name, "b");
    assert_null(registry_server_for(servers, REGISTRY_HTTP, "https://example.org/x"));
    assert_string_equal(registry_server_for(servers, REGISTRY_OCI, "localhost:5000")->name, "c");
    assert_null(registry_server_for(servers, REGISTRY_OCI, "localhost:5001"));
    assert_string_equal(registry_server_for(servers, REGISTRY_S3, "models")->name, "lake");
    assert_string_equal(registry_server_for(servers, REGISTRY_S3, "other")->name, "");
    assert_null(registry_server_for(NULL, REGISTRY_S3, "other"));
    registry_servers_free(servers);
    servers = must_read("[s3 lake]\nbuckets = models\n", nothing);
    assert_null(registry_server_for(servers, REGISTRY_S3, "other"));
    registry_servers_free(servers);
}

/* ---- the environment ---- */

static void the_environment_names_the_default_servers(void **state) {
    (void)state;
    char *const environment[] = {"MLFLOW_TRACKING_URI=https://anna:p%40ss@track.example.com/base/",
                                 "AWS_ACCESS_KEY_ID=AK",
                                 "AWS_SECRET_ACCESS_KEY=hunter2",
                                 "AWS_SESSION_TOKEN=st",
                                 "AWS_ENDPOINT_URL=http://localhost:7070",
                                 "AWS_DEFAULT_REGION=eu-1",
                                 "HOME=/home/anna",
                                 "SLIPWAY_TOKEN=not-kept",
                                 NULL};
    struct registry_servers *servers = must_read(NULL, environment);
    const struct registry_server *tracking = registry_server_named(servers, REGISTRY_MLFLOW, "");
    assert_string_equal(tracking->url, "https://track.example.com/base");
    assert_string_equal(tracking->username, "anna");
    assert_string_equal(tracking->password, "p@ss");
    const struct registry_server *lake = registry_server_for(servers, REGISTRY_S3, "any");
    assert_string_equal(lake->url, "http://localhost:7070");
    assert_string_equal(lake->username, "AK");
    assert_string_equal(lake->password, "hunter2");
    assert_string_equal(lake->token, "st");
    assert_string_equal(lake->region, "eu-1");
    assert_string_equal(registry_environment(servers, "HOME"), "/home/anna");
    assert_null(registry_environment(servers, "HOM"));
    assert_null(registry_environment(servers, "SLIPWAY_TOKEN"));
    registry_servers_free(servers);
}

static void the_file_comes_before_the_environment_whose_secrets_do_not_reach_its_servers(void **state) {
    (void)state;
    char *const environment[] = {"MLFLOW_TRACKING_URI=https://b.example.com", "MLFLOW_TRACKING_PASSWORD=hunter2",
                                 "MLFLOW_TRACKING_USERNAME=anna", "AWS_PROFILE=work", NULL};
    struct registry_servers *servers =
        must_read("[mlflow]\nurl = http://a.example.com\n[s3]\nregion = x\n", environment);
    assert_int_equal(servers->count, 2);
    const struct registry_server *tracking = registry_server_named(servers, REGISTRY_MLFLOW, "");
    assert_string_equal(tracking->url, "http://a.example.com");
    assert_null(tracking->username);
    assert_null(tracking->password);
    assert_null(registry_server_for(servers, REGISTRY_S3, "any")->profile);
    registry_servers_free(servers);
    servers = must_read("[mlflow lab]\nurl = http://a.example.com\n[s3 lake]\nbuckets = x\n", environment);
    assert_int_equal(servers->count, 4);
    assert_string_equal(registry_server_named(servers, REGISTRY_MLFLOW, "")->password, "hunter2");
    assert_null(registry_server_named(servers, REGISTRY_MLFLOW, "lab")->password);
    assert_string_equal(registry_server_for(servers, REGISTRY_S3, "any")->profile, "work");
    registry_servers_free(servers);
}

static void variables_that_name_no_server_make_none_and_broken_ones_are_named(void **state) {
    (void)state;
    static char *const none[][3] = {{"MLFLOW_TRACKING_URI=", NULL},
                                    {"MLFLOW_TRACKING_URI=./mlruns", NULL},
                                    {"MLFLOW_TRACKING_URI=sqlite:///x.db", NULL},
                                    {"AWS_REGION=x", "AWS_PROFILE=", NULL}};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        struct registry_servers *servers = must_read(NULL, none[i]);
        assert_int_equal(servers->count, 0);
        registry_servers_free(servers);
    }
    static char *const broken[][3] = {{"MLFLOW_TRACKING_URI=http://u:hunter2@/x", NULL},
                                      {"AWS_ENDPOINT_URL=hunter2", "AWS_PROFILE=x", NULL},
                                      {"MLFLOW_TRACKING_URI=http://a", "MLFLOW_TRACKING_TOKEN=hunter2\n", NULL}};
    static const char *const expected[] = {"MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "MLFLOW_TRACKING_TOKEN"};
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        struct registry_servers *servers = NULL;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(read_text(NULL, broken[i], &servers, &error), -(int)ERROR_CONFIGURATION);
        assert_non_null(strstr(error->message, expected[i]));
        assert_null(strstr(error->message, "hunter2"));
    }
}

/* ---- secrets ---- */

static void a_secret_is_read_from_its_file_each_time(void **state) {
    (void)state;
    char folder[] = "/tmp/slipway-secret-XXXXXX";
    assert_non_null(mkdtemp(folder));
    _cleanup_free_ char *path = fs_join(folder, "secret"), *secret = NULL;
    assert_int_equal(fs_write_file(path, "first\r\nmore\n", 12, NULL), 0);
    assert_int_equal(registry_read_secret(NULL, path, &secret, NULL), 0);
    assert_string_equal(secret, "first");
    free(TAKE(secret));
    assert_int_equal(fs_write_file(path, "second", 6, NULL), 0);
    assert_int_equal(registry_read_secret(NULL, path, &secret, NULL), 0);
    assert_string_equal(secret, "second");
    free(TAKE(secret));
    assert_int_equal(registry_read_secret("given", NULL, &secret, NULL), 0);
    assert_string_equal(secret, "given");
    free(TAKE(secret));
    assert_int_equal(registry_read_secret(NULL, NULL, &secret, NULL), 0);
    assert_null(secret);
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected;
    } broken[] = {
        {"\nx", 2, "is empty"}, {"", 0, "is empty"}, {"hunter2\0x", 9, "not plain"}, {"hunter2\x01", 8, "not plain"}};
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(fs_write_file(path, broken[i].bytes, broken[i].size, NULL), 0);
        assert_int_equal(registry_read_secret(NULL, path, &secret, &error), -(int)ERROR_MODEL_REGISTRY);
        assert_null(secret);
        assert_non_null(strstr(error->message, broken[i].expected));
        assert_null(strstr(error->message, "hunter2"));
    }
    assert_int_equal(fs_remove_tree(folder, NULL), 0);
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(registry_read_secret(NULL, path, &secret, &error), -(int)ERROR_MODEL_REGISTRY);
    assert_non_null(strstr(error->message, path));
}

static void what_is_not_configured_says_how_to(void **state) {
    (void)state;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(registry_fail_unconfigured("models:/a/1", "set MLFLOW_TRACKING_URI", &error),
                     -(int)ERROR_CONFIGURATION);
    assert_string_equal(error->message, "models: is not configured here: set MLFLOW_TRACKING_URI");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_says_what_servers_there_are),
        cmocka_unit_test(a_fault_names_the_file_the_line_and_what_would_be_right),
        cmocka_unit_test(a_secret_in_the_wrong_place_is_not_shown),
        cmocka_unit_test(the_number_of_servers_and_hosts_has_a_ceiling),
        cmocka_unit_test(a_host_and_a_bucket_find_their_server),
        cmocka_unit_test(the_environment_names_the_default_servers),
        cmocka_unit_test(the_file_comes_before_the_environment_whose_secrets_do_not_reach_its_servers),
        cmocka_unit_test(variables_that_name_no_server_make_none_and_broken_ones_are_named),
        cmocka_unit_test(a_secret_is_read_from_its_file_each_time),
        cmocka_unit_test(what_is_not_configured_says_how_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
