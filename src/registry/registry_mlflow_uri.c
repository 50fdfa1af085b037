/* What an MLflow URI names. Pure: asks nobody.
 *
 * As MLflow's own client, names are taken as they are written, without percent-decoding; and as it, "models:/a/b" is a
 * stage unless b is a number or "latest". What differs: a name behind two slashes is a server of the registries file
 * (the client knows vendors' profiles there), a run may stand without a path, and mlflow_runs: is runs:.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define SHOWN 200 /* how much of a URI an error repeats */
#define URI_MAXIMUM 4096
#define VERSION_MAXIMUM INT32_MAX /* MLflow's column */

static int refuse(const char *uri, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "the model URI %.*s %s", SHOWN, uri, why);
}

/* ---- paths ---- */

static bool segment_is_safe(const char *segment, size_t size) {
    if (!size || (size == 1 && segment[0] == '.') || (size == 2 && segment[0] == '.' && segment[1] == '.'))
        return false;
    for (size_t i = 0; i < size; i++) {
        if (segment[i] == '\\' || segment[i] == '/') return false;
        if (segment[i] == '%' && size - i > 2 && isxdigit((unsigned char)segment[i + 1]) &&
            isxdigit((unsigned char)segment[i + 2]))
            return false;
    }
    return true;
}

bool mlflow_path_is_safe(const char *path) {
    if (!*path) return true;
    if (strlen(path) > REGISTRY_PATH_MAXIMUM || !registry_path_is_plain(path)) return false;
    for (const char *at = path;; at++) {
        size_t size = strcspn(at, "/");
        if (!segment_is_safe(at, size)) return false;
        at += size;
        if (!*at) return true;
    }
}

/* ---- parts ---- */

static const char *scheme_end(const char *uri, bool *ret_is_run) {
    static const struct {
        const char *scheme;
        bool is_run;
    } schemes[] = {{"runs:", true}, {"mlflow_runs:", true}, {"models:", false}};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        if (strncasecmp(uri, schemes[i].scheme, strlen(schemes[i].scheme))) continue;
        *ret_is_run = schemes[i].is_run;
        return uri + strlen(schemes[i].scheme);
    }
    return NULL;
}

/* "/…" is the default server's, "//NAME/…" and "///…" name it. *ret_rest begins behind the slash. */
static int take_server(const char *uri, const char *at, struct mlflow_uri *parsed, const char **ret_rest,
                       struct error **ret_error) {
    if (*at != '/') return refuse(uri, "needs a slash behind its scheme, as in runs:/RUN/model", ret_error);
    if (at[1] != '/') {
        parsed->server = text_copy("");
        *ret_rest = at + 1;
        return 0;
    }
    size_t size = strcspn(at + 2, "/");
    parsed->server = text_copy_bytes(at + 2, size);
    if (size && !text_is_name(parsed->server))
        return refuse(uri,
                      "names its server by what is no name of a section [mlflow NAME] (a URI with one slash behind "
                      "the scheme asks the default server)",
                      ret_error);
    if (!at[2 + size]) return refuse(uri, "ends behind the server's name", ret_error);
    *ret_rest = at + 2 + size + 1;
    return 0;
}

/* A run's or a logged model's id. */
static bool is_id(const char *text) {
    size_t size = strlen(text);
    if (!size || size > 256 || !isalnum((unsigned char)*text)) return false;
    for (const char *at = text; *at; at++)
        if (!isalnum((unsigned char)*at) && *at != '_' && *at != '-') return false;
    return true;
}

static int take_path(const char *uri, const char *at, struct mlflow_uri *parsed, struct error **ret_error) {
    size_t size = strlen(at);
    while (size && at[size - 1] == '/') size--;
    parsed->path = text_copy_bytes(at, size);
    if (mlflow_path_is_safe(parsed->path)) return 0;
    return refuse(uri,
                  "has a path with an empty part, \".\", \"..\", a backslash or a percent escape in it; paths are "
                  "written as they are, without escapes",
                  ret_error);
}

static int parse_run(const char *uri, const char *at, struct mlflow_uri *parsed, struct error **ret_error) {
    size_t size = strcspn(at, "/");
    parsed->kind = MLFLOW_RUN;
    parsed->name = text_copy_bytes(at, size);
    if (!is_id(parsed->name))
        return refuse(uri, "has no run id, which is of letters, digits, '_' and '-', as in runs:/RUN/model", ret_error);
    return take_path(uri, at + size + (at[size] == '/'), parsed, ret_error);
}

static int parse_logged_model(const char *uri, const char *at, struct mlflow_uri *parsed, struct error **ret_error) {
    size_t size = strcspn(at, "/");
    parsed->kind = MLFLOW_LOGGED_MODEL;
    parsed->name = text_copy_bytes(at, size);
    if (!is_id(parsed->name))
        return refuse(uri, "has a model id that is not of letters, digits, '_' and '-'", ret_error);
    return take_path(uri, at + size + (at[size] == '/'), parsed, ret_error);
}

/* ---- registered models ---- */

static bool is_registered_name(const char *name) {
    return *name && strspn(name, " ") < strlen(name) && segment_is_safe(name, strlen(name));
}

/* What MLflow takes for an alias or a stage; the server says which there are. */
static bool is_selector(const char *text) {
    return is_id(text) || (*text && strlen(text) <= 256 && segment_is_safe(text, strlen(text)));
}

static int parse_alias(const char *uri, const char *at, struct mlflow_uri *parsed, struct error **ret_error) {
    const char *sign = strrchr(at, '@');
    if (!sign)
        return refuse(uri,
                      "names a registered model without saying which version: models:/NAME/3, models:/NAME@ALIAS or "
                      "models:/NAME/latest",
                      ret_error);
    parsed->kind = MLFLOW_ALIAS;
    parsed->name = text_copy_bytes(at, (size_t)(sign - at));
    parsed->selector = text_copy(sign + 1);
    if (!is_registered_name(parsed->name) || !is_selector(parsed->selector))
        return refuse(uri, "is to be of the form models:/NAME@ALIAS", ret_error);
    return 0;
}

static int parse_selector(const char *uri, const char *selector, struct mlflow_uri *parsed, struct error **ret_error) {
    uint64_t number;
    if (*selector && strspn(selector, "0123456789") == strlen(selector)) {
        if (!text_parse_number(selector, VERSION_MAXIMUM, &number) || !number)
            return refuse(uri, "has a version that is no number from 1 to 2147483647", ret_error);
        parsed->kind = MLFLOW_VERSION;
        parsed->selector = text_format("%llu", (unsigned long long)number);
    } else if (!strcasecmp(selector, "latest")) {
        parsed->kind = MLFLOW_LATEST;
    } else if (is_selector(selector)) {
        parsed->kind = MLFLOW_STAGE;
        parsed->selector = text_copy(selector);
    } else {
        return refuse(uri, "is to be of the form models:/NAME/VERSION, models:/NAME/STAGE or models:/NAME/latest",
                      ret_error);
    }
    return 0;
}

static int parse_registered(const char *uri, const char *at, struct mlflow_uri *parsed, struct error **ret_error) {
    parsed->path = text_copy("");
    const char *slash = strchr(at, '/');
    if (!slash) return parse_alias(uri, at, parsed, ret_error);
    parsed->name = text_copy_bytes(at, (size_t)(slash - at));
    if (!is_registered_name(parsed->name))
        return refuse(uri, "has no name of a registered model, as in models:/NAME/3", ret_error);
    size_t size = strlen(slash + 1);
    if (size && slash[size] == '/') size--; /* one at the end, as people write folders */
    _cleanup_free_ char *selector = text_copy_bytes(slash + 1, size);
    return parse_selector(uri, selector, parsed, ret_error);
}

/* ---- whole ---- */

static int parse(const char *uri, struct mlflow_uri *parsed, struct error **ret_error) {
    if (!registry_path_is_plain(uri))
        return error_set(ret_error, ERROR_CONFIGURATION, "the model URI is not UTF-8 or holds a control character");
    if (strlen(uri) > URI_MAXIMUM) return refuse(uri, "… is longer than 4096 bytes", ret_error);
    if (strpbrk(uri, "?#")) return refuse(uri, "has a query or a fragment, which MLflow's URIs have not", ret_error);
    bool is_run;
    const char *at = scheme_end(uri, &is_run);
    if (!at) return refuse(uri, "is none of MLflow's, which begin with runs:, mlflow_runs: or models:", ret_error);
    int result = take_server(uri, at, parsed, &at, ret_error);
    if (result < 0) return result;
    if (is_run) return parse_run(uri, at, parsed, ret_error);
    /* A registered model may be called m-1: with a version or an alias it is one. */
    size_t size = strcspn(at, "/");
    bool is_logged = text_starts_with(at, "m-") && !memchr(at, '@', size) &&
                     (!at[size] || (size == 34 && strspn(at + 2, "0123456789abcdef") >= 32));
    return is_logged ? parse_logged_model(uri, at, parsed, ret_error) : parse_registered(uri, at, parsed, ret_error);
}

int mlflow_uri_parse(const char *uri, struct mlflow_uri *ret_uri, struct error **ret_error) {
    _cleanup_mlflow_uri_ struct mlflow_uri parsed = {0};
    int result = parse(uri, &parsed, ret_error);
    if (result < 0) return result;
    *ret_uri = parsed;
    parsed = (struct mlflow_uri){0};
    return 0;
}

void mlflow_uri_clear(struct mlflow_uri *uri) {
    free(uri->server);
    free(uri->name);
    free(uri->selector);
    free(uri->path);
    *uri = (struct mlflow_uri){0};
}

char *mlflow_uri_write(const struct mlflow_uri *uri) {
    const char *scheme = uri->kind == MLFLOW_RUN ? "runs:/" : "models:/";
    const char *slash = *uri->server ? "/" : "", *behind = *uri->server ? "/" : "";
    const char *separator = "", *last = "";
    if (uri->kind == MLFLOW_ALIAS) separator = "@", last = uri->selector;
    if (uri->kind == MLFLOW_VERSION || uri->kind == MLFLOW_STAGE) separator = "/", last = uri->selector;
    if (uri->kind == MLFLOW_LATEST) separator = "/", last = "latest";
    if (*uri->path) separator = "/", last = uri->path;
    return text_format("%s%s%s%s%s%s%s", scheme, slash, uri->server, behind, uri->name, separator, last);
}
