/* What MLflow's URIs and its file MLmodel say, and as whom a server is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define HEX32 "0123456789abcdef0123456789abcdef"

/* ---- URIs ---- */

static void a_uri_names_a_run_a_model_or_a_version(void **state) {
    (void)state;
    static const struct {
        const char *uri;
        enum mlflow_uri_kind kind;
        const char *server, *name, *selector, *path, *written;
    } cases[] = {
        {"runs:/R1/model", MLFLOW_RUN, "", "R1", NULL, "model", "runs:/R1/model"},
        {"mlflow_runs:/R1/model", MLFLOW_RUN, "", "R1", NULL, "model", "runs:/R1/model"},
        {"RUNS:/R1/model/", MLFLOW_RUN, "", "R1", NULL, "model", "runs:/R1/model"},
        {"runs:/R1", MLFLOW_RUN, "", "R1", NULL, "", "runs:/R1"},
        {"runs:/R1/", MLFLOW_RUN, "", "R1", NULL, "", "runs:/R1"},
        {"runs:/R1/a/b c+ü@2", MLFLOW_RUN, "", "R1", NULL, "a/b c+ü@2", "runs:/R1/a/b c+ü@2"},
        {"runs:///R1/model", MLFLOW_RUN, "", "R1", NULL, "model", "runs:/R1/model"},
        {"runs://lab/R1/model", MLFLOW_RUN, "lab", "R1", NULL, "model", "runs://lab/R1/model"},
        {"mlflow_runs://lab/R1", MLFLOW_RUN, "lab", "R1", NULL, "", "runs://lab/R1"},
        {"models:/demo/3", MLFLOW_VERSION, "", "demo", "3", "", "models:/demo/3"},
        {"models:/demo/007", MLFLOW_VERSION, "", "demo", "7", "", "models:/demo/7"},
        {"models:/my demo/3/", MLFLOW_VERSION, "", "my demo", "3", "", "models:/my demo/3"},
        {"models://lab/demo/3", MLFLOW_VERSION, "lab", "demo", "3", "", "models://lab/demo/3"},
        {"models:/demo@champion", MLFLOW_ALIAS, "", "demo", "champion", "", "models:/demo@champion"},
        {"models:/a@b@champion", MLFLOW_ALIAS, "", "a@b", "champion", "", "models:/a@b@champion"},
        {"models://lab/demo@champion", MLFLOW_ALIAS, "lab", "demo", "champion", "", "models://lab/demo@champion"},
        {"models:/demo/latest", MLFLOW_LATEST, "", "demo", NULL, "", "models:/demo/latest"},
        {"models:/demo/Latest", MLFLOW_LATEST, "", "demo", NULL, "", "models:/demo/latest"},
        {"models:/demo/Production", MLFLOW_STAGE, "", "demo", "Production", "", "models:/demo/Production"},
        {"models:/m-" HEX32, MLFLOW_LOGGED_MODEL, "", "m-" HEX32, NULL, "", "models:/m-" HEX32},
        {"models:/m-" HEX32 "/onnx", MLFLOW_LOGGED_MODEL, "", "m-" HEX32, NULL, "onnx", "models:/m-" HEX32 "/onnx"},
        {"models://lab/m-" HEX32, MLFLOW_LOGGED_MODEL, "lab", "m-" HEX32, NULL, "", "models://lab/m-" HEX32},
        {"models:/m-7", MLFLOW_LOGGED_MODEL, "", "m-7", NULL, "", "models:/m-7"},
        {"models:/m-7/2", MLFLOW_VERSION, "", "m-7", "2", "", "models:/m-7/2"},
        {"models:/m-7@champion", MLFLOW_ALIAS, "", "m-7", "champion", "", "models:/m-7@champion"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_mlflow_uri_ struct mlflow_uri uri = {0}, again = {0};
        assert_int_equal(mlflow_uri_parse(cases[i].uri, &uri, NULL), 0);
        assert_int_equal(uri.kind, cases[i].kind);
        assert_string_equal(uri.server, cases[i].server);
        assert_string_equal(uri.name, cases[i].name);
        assert_true(text_equal(uri.selector, cases[i].selector));
        assert_string_equal(uri.path, cases[i].path);
        _cleanup_free_ char *written = mlflow_uri_write(&uri);
        assert_string_equal(written, cases[i].written);
        assert_int_equal(mlflow_uri_parse(written, &again, NULL), 0);
        _cleanup_free_ char *twice = mlflow_uri_write(&again);
        assert_string_equal(twice, written);
    }
}

static void what_is_no_uri_of_mlflow_is_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        const char *uri, *reason;
    } cases[] = {
        {"", "none of MLflow's"},
        {"run:/R/model", "none of MLflow's"},
        {"runs:R/model", "slash behind its scheme"},
        {"runs:", "slash behind its scheme"},
        {"runs:/", "no run id"},
        {"runs://", "ends behind the server's name"},
        {"runs://lab", "ends behind the server's name"},
        {"runs://lab/", "no run id"},
        {"runs://user:secret@lab/R/model", "no name of a section"},
        {"runs:/a b/model", "no run id"},
        {"runs:/R'/model", "no run id"},
        {"runs:/../model", "no run id"},
        {"runs:/R/../model", "percent escape"},
        {"runs:/R/a/./b", "percent escape"},
        {"runs:/R/a//b", "percent escape"},
        {"runs:/R/%2e%2e/model", "percent escape"},
        {"runs:/R/a%2Fb", "percent escape"},
        {"runs:/R/a\\b", "backslash"},
        {"runs:/R/model?x=1", "query"},
        {"runs:/R/model#x", "fragment"},
        {"runs:/R/mo\ndel", "control character"},
        {"runs:/R/\xff", "UTF-8"},
        {"models:/", "without saying which version"},
        {"models:/demo", "without saying which version"},
        {"models:/demo@", "models:/NAME@ALIAS"},
        {"models:/@champion", "models:/NAME@ALIAS"},
        {"models:/demo/", "models:/NAME/VERSION"},
        {"models:/demo/0", "from 1 to 2147483647"},
        {"models:/demo/2147483648", "from 1 to 2147483647"},
        {"models:/demo/99999999999999999999999", "from 1 to 2147483647"},
        {"models:/demo/3/onnx", "models:/NAME/VERSION"},
        {"models:/demo/..", "models:/NAME/VERSION"},
        {"models:/ /3", "no name of a registered model"},
        {"models:/../3", "no name of a registered model"},
        {"models:/%2e%2e/3", "no name of a registered model"},
        {"models:/m-" HEX32 "/../x", "percent escape"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_error_ struct error *error = NULL;
        struct mlflow_uri uri = {0};
        assert_int_equal(mlflow_uri_parse(cases[i].uri, &uri, &error), -ERROR_CONFIGURATION);
        if (!strstr(error->message, cases[i].reason)) fail_msg("%s: %s", cases[i].uri, error->message);
        assert_null(uri.name);
    }
}

static void a_uri_of_a_megabyte_is_refused_and_not_repeated(void **state) {
    (void)state;
    size_t size = 1 << 20;
    _cleanup_free_ char *uri = mem_alloc(size + 1);
    memset(uri, 'a', size);
    memcpy(uri, "runs:/", strlen("runs:/"));
    uri[size] = 0;
    _cleanup_error_ struct error *error = NULL;
    struct mlflow_uri parsed = {0};
    assert_int_equal(mlflow_uri_parse(uri, &parsed, &error), -ERROR_CONFIGURATION);
    assert_true(strlen(error->message) < 1000);
}

/* ---- MLmodel ---- */

static int read_model(const char *text, char **ret_path, char **ret_facts, struct error **ret_error) {
    return mlflow_model_read(text, strlen(text), ret_path, ret_facts, ret_error);
}

static void the_onnx_file_and_the_signature_are_read(void **state) {
    (void)state;
    static const char text[] =
        "artifact_path: model\n"
        "flavors:\n"
        "  onnx:\n"
        "    code: null\n"
        "    data: net/model.onnx\n"
        "  python_function: {loader_module: mlflow.onnx}\n"
        "mlflow_version: 3.17.2\n"
        "run_id: null\n"
        "signature:\n"
        "  inputs: '[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1,\n"
        "    4]}}]'\n"
        "  outputs: 'not JSON'\n"
        "  params: null\n";
    _cleanup_free_ char *path = NULL, *facts = NULL;
    assert_int_equal(read_model(text, &path, &facts, NULL), 0);
    assert_string_equal(path, "net/model.onnx");
    assert_string_equal(facts,
                        "{\"format\":\"mlflow\",\"flavors\":[\"onnx\",\"python_function\"],"
                        "\"onnx_file\":\"net/model.onnx\",\"mlflow_version\":\"3.17.2\",\"signature\":{\"inputs\":"
                        "[{\"type\":\"tensor\",\"tensor-spec\":{\"dtype\":\"float32\",\"shape\":[-1,4]}}]}}");
}

static void another_flavor_is_refused_by_name(void **state) {
    (void)state;
    _cleanup_error_ struct error *error = NULL, *none = NULL;
    char *path = NULL, *facts = NULL;
    static const char text[] = "flavors:\n  sklearn: {pickled_model: model.pkl}\n  python_function: {}\n";
    assert_int_equal(read_model(text, &path, &facts, &error), -ERROR_CONFIGURATION);
    assert_non_null(strstr(error->message, "it has sklearn, python_function"));
    assert_int_equal(read_model("flavors: {}\n", &path, &facts, &none), -ERROR_CONFIGURATION);
    assert_non_null(strstr(none->message, "it has none"));
    assert_null(path);
    assert_null(facts);
}

static void a_broken_file_is_refused_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int class;
        const char *reason;
    } cases[] = {
        {"", ERROR_MODEL_REGISTRY, "not a YAML map"},
        {"- a\n", ERROR_MODEL_REGISTRY, "not a YAML map"},
        {"a: b\nflavors: [\n", ERROR_MODEL_REGISTRY, "line"},
        {"a: b\n\tc: d\n", ERROR_MODEL_REGISTRY, "line 2"},
        {"flavors: {onnx: {}}\n", ERROR_MODEL_REGISTRY, "flavors.onnx.data"},
        {"flavors: {onnx: {data: null}}\n", ERROR_MODEL_REGISTRY, "flavors.onnx.data"},
        {"flavors: {onnx: {data: [a]}}\n", ERROR_MODEL_REGISTRY, "flavors.onnx.data"},
        {"flavors: {onnx: {data: ../../etc/passwd}}\n", ERROR_CONFIGURATION, "no path inside the model"},
        {"flavors: {onnx: {data: /etc/passwd}}\n", ERROR_CONFIGURATION, "no path inside the model"},
        {"flavors: {onnx: \"\\0\"}\n", ERROR_MODEL_REGISTRY, "flavors.onnx.data"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_error_ struct error *error = NULL;
        char *path = NULL, *facts = NULL;
        assert_int_equal(read_model(cases[i].text, &path, &facts, &error), -cases[i].class);
        if (!strstr(error->message, cases[i].reason)) fail_msg("%s: %s", cases[i].text, error->message);
    }
}

static void aliases_multiply_nothing(void **state) {
    (void)state;
    struct buffer text = {0};
    buffer_append_text(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 60; i++) {
        buffer_append_format(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++) buffer_append_format(&text, "%s*a%d", j ? ", " : "", i - 1);
        buffer_append_text(&text, "]\n");
    }
    buffer_append_text(&text, "flavors: {onnx: {data: model.onnx}}\nsignature: *a59\n");
    _cleanup_free_ char *path = NULL, *facts = NULL;
    assert_int_equal(mlflow_model_read(text.bytes, text.size, &path, &facts, NULL), 0);
    assert_string_equal(path, "model.onnx");
    buffer_clear(&text);
}

/* ---- credentials ---- */

struct home {
    char folder[64], variable[80];
};

static void make_home(struct home *home, const char *credentials) {
    snprintf(home->folder, sizeof home->folder, "/tmp/slipway-mlflow-XXXXXX");
    assert_non_null(mkdtemp(home->folder));
    snprintf(home->variable, sizeof home->variable, "HOME=%s", home->folder);
    _cleanup_free_ char *folder = fs_join(home->folder, ".mlflow"), *file = fs_join(folder, "credentials");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(fs_write_file(file, credentials, strlen(credentials), NULL), 0);
}

static void expect_credentials(const char *file, char *const *environment, const char *server_name,
                               enum transfer_authentication kind, const char *user, const char *secret) {
    struct registry_servers *servers = NULL;
    assert_int_equal(registry_servers_new(file, file ? strlen(file) : 0, "registries", environment, &servers, NULL), 0);
    const struct registry_server *server = registry_server_named(servers, REGISTRY_MLFLOW, server_name);
    assert_non_null(server);
    struct mlflow_credentials found = {0};
    assert_int_equal(mlflow_credentials_find(servers, server, &found, NULL), 0);
    assert_int_equal(found.kind, kind);
    assert_true(text_equal(found.user, user));
    assert_true(text_equal(found.secret, secret));
    mlflow_credentials_clear(&found);
    registry_servers_free(servers);
}

#define URI "MLFLOW_TRACKING_URI=http://lab:5000/prefix/"

static void credentials_are_taken_as_the_client_takes_them(void **state) {
    (void)state;
    struct home home;
    make_home(&home, "[mlflow]\nmlflow_tracking_username = filed\nmlflow_tracking_password = f-secret\n");
    char *const nothing[] = {(char *)URI, NULL};
    expect_credentials(NULL, nothing, "", TRANSFER_ANONYMOUS, NULL, NULL);
    char *const filed[] = {(char *)URI, home.variable, NULL};
    expect_credentials(NULL, filed, "", TRANSFER_BASIC, "filed", "f-secret");
    char *const token[] = {(char *)URI, (char *)"MLFLOW_TRACKING_TOKEN=t-secret", NULL};
    expect_credentials(NULL, token, "", TRANSFER_BEARER, NULL, "t-secret");
    char *const both[] = {(char *)URI,
                          (char *)"MLFLOW_TRACKING_TOKEN=t-secret",
                          (char *)"MLFLOW_TRACKING_USERNAME=ada",
                          (char *)"MLFLOW_TRACKING_PASSWORD=p-secret",
                          home.variable,
                          NULL};
    expect_credentials(NULL, both, "", TRANSFER_BASIC, "ada", "p-secret");
    char *const mixed[] = {(char *)URI, (char *)"MLFLOW_TRACKING_TOKEN=t-secret",
                           (char *)"MLFLOW_TRACKING_USERNAME=ada", home.variable, NULL};
    expect_credentials(NULL, mixed, "", TRANSFER_BASIC, "ada", "f-secret");
    char *const in_uri[] = {(char *)"MLFLOW_TRACKING_URI=http://bob:b%40secret@lab:5000/prefix",
                            (char *)"MLFLOW_TRACKING_USERNAME=ada", (char *)"MLFLOW_TRACKING_PASSWORD=p-secret", NULL};
    expect_credentials(NULL, in_uri, "", TRANSFER_BASIC, "bob", "b@secret");
    assert_int_equal(fs_remove_tree(home.folder, NULL), 0);
}

static void the_environments_credentials_go_to_its_own_server_only(void **state) {
    (void)state;
    struct home home;
    make_home(&home, "[mlflow]\nmlflow_tracking_username = filed\nmlflow_tracking_password = f-secret\n");
    char *const environment[] = {(char *)URI, (char *)"MLFLOW_TRACKING_USERNAME=ada",
                                 (char *)"MLFLOW_TRACKING_PASSWORD=p-secret", home.variable, NULL};
    static const char file[] = "[mlflow lab]\nurl = http://lab:5000/prefix\n"
                               "[mlflow other]\nurl = http://other:5000\nusername = eve\npassword = e-secret\n"
                               "[mlflow]\nurl = http://elsewhere:5000\n";
    expect_credentials(file, environment, "lab", TRANSFER_ANONYMOUS, NULL, NULL);
    expect_credentials(file, environment, "other", TRANSFER_BASIC, "eve", "e-secret");
    expect_credentials(file, environment, "", TRANSFER_ANONYMOUS, NULL, NULL);
    static const char same[] = "[mlflow]\nurl = http://lab:5000/prefix\n";
    expect_credentials(same, environment, "", TRANSFER_BASIC, "ada", "p-secret");
    static const char own[] = "[mlflow]\nurl = http://lab:5000/prefix\ntoken = o-secret\n";
    expect_credentials(own, environment, "", TRANSFER_BEARER, NULL, "o-secret");
    assert_int_equal(fs_remove_tree(home.folder, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_uri_names_a_run_a_model_or_a_version),
        cmocka_unit_test(what_is_no_uri_of_mlflow_is_refused_with_the_reason),
        cmocka_unit_test(a_uri_of_a_megabyte_is_refused_and_not_repeated),
        cmocka_unit_test(the_onnx_file_and_the_signature_are_read),
        cmocka_unit_test(another_flavor_is_refused_by_name),
        cmocka_unit_test(a_broken_file_is_refused_with_its_line),
        cmocka_unit_test(aliases_multiply_nothing),
        cmocka_unit_test(credentials_are_taken_as_the_client_takes_them),
        cmocka_unit_test(the_environments_credentials_go_to_its_own_server_only),
    };
    return cmocka_run_group_tests_name("mlflow", tests, NULL, NULL);
}
