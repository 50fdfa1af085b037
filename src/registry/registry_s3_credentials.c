/* Keys for S3: the section's, the environment's, or a profile of the shared credentials file
 * (https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html). No error names a value that was read. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "registry/registry_s3.h"
#include "registry/registry_servers.h"

#define FILE_MAXIMUM (1u << 20)

static void free_secret(char *secret) {
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

void registry_s3_credentials_clear(struct registry_s3_credentials *credentials) {
    free_secret(credentials->secret_access_key);
    free_secret(credentials->session_token);
    free(credentials->access_key_id);
    free(credentials->region);
    *credentials = (struct registry_s3_credentials){0};
}

/* Two of them go into headers. */
static bool is_plain(const char *text) {
    return !text || registry_path_is_plain(text);
}

static int check_pair(const struct registry_s3_credentials *credentials, const char *where, struct error **ret_error) {
    if (!is_plain(credentials->access_key_id) || !is_plain(credentials->session_token))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s has a key or token that is not plain text", where);
    if (!credentials->access_key_id == !credentials->secret_access_key) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "%s has %s without the other", where,
                     credentials->access_key_id ? "an access key id and no secret" : "a secret and no access key id");
}

/* ---- the shared file ---- */

static char *trim(char *line) {
    line += strspn(line, " \t\r");
    size_t length = strlen(line);
    while (length && strchr(" \t\r", line[length - 1])) line[--length] = 0;
    return line;
}

/* "[name]", also "[ name ]". */
static bool is_profile(char *line, const char *profile) {
    size_t length = strlen(line);
    if (length < 2 || line[length - 1] != ']') return false;
    line[length - 1] = 0;
    return !strcmp(trim(line + 1), profile);
}

static void take_value(struct registry_s3_credentials *credentials, const char *name, const char *value) {
    const struct {
        const char *name;
        char **field;
    } known[] = {
        {"aws_access_key_id", &credentials->access_key_id},
        {"aws_secret_access_key", &credentials->secret_access_key},
        {"aws_session_token", &credentials->session_token},
        {"region", &credentials->region},
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strcmp(known[i].name, name) || !*value) continue;
        free_secret(*known[i].field);
        *known[i].field = text_copy(value);
    }
}

/* Whether the profile is in it. A later section of the same name adds to the first. */
static bool read_profile(char *text, const char *profile, struct registry_s3_credentials *credentials) {
    bool is_there = false, is_inside = false;
    char *save = NULL;
    for (char *raw = strtok_r(text, "\n", &save); raw; raw = strtok_r(NULL, "\n", &save)) {
        bool is_nested = *raw == ' ' || *raw == '\t'; /* settings below a setting: not ours */
        char *line = trim(raw), *equals = strchr(line, '=');
        if (!*line || *line == '#' || *line == ';') continue;
        if (*line == '[') {
            is_inside = is_profile(line, profile);
            is_there = is_there || is_inside;
        } else if (is_inside && equals && !is_nested) {
            *equals = 0;
            take_value(credentials, trim(line), trim(equals + 1));
        }
    }
    return is_there;
}

static char *credentials_file(const struct registry_servers *servers) {
    const char *file = registry_environment(servers, "AWS_SHARED_CREDENTIALS_FILE");
    const char *home = registry_environment(servers, "HOME");
    if (file && *file) return text_copy(file);
    return home && *home ? text_format("%s/.aws/credentials", home) : NULL;
}

static int read_file(const char *path, const char *profile, struct registry_s3_credentials *credentials,
                     bool *ret_is_there, struct error **ret_error) {
    char *text;
    size_t size;
    _cleanup_error_ struct error *cause = NULL;
    if (fs_read_file(path, FILE_MAXIMUM, &text, &size, &cause) < 0) {
        _cleanup_free_ char *why = error_text(cause);
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "read the shared credentials file: %s", why);
    }
    *ret_is_there = read_profile(text, profile, credentials);
    explicit_bzero(text, size);
    free(text);
    return 0;
}

/* profile NULL: that of the environment, or "default", which may be missing. */
static int from_profile(const struct registry_servers *servers, const char *profile,
                        struct registry_s3_credentials *credentials, struct error **ret_error) {
    const char *named = profile ? profile : registry_environment(servers, "AWS_PROFILE");
    bool is_wanted = named && *named, is_there = false;
    _cleanup_free_ char *path = credentials_file(servers);
    if (!is_wanted && (!path || access(path, R_OK) < 0)) return 0;
    if (!path)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the profile %s: set AWS_SHARED_CREDENTIALS_FILE to the file that has it", named);
    int result = read_file(path, is_wanted ? named : "default", credentials, &is_there, ret_error);
    if (result < 0 || (!is_there && !is_wanted)) return result;
    if (!is_there || !credentials->access_key_id)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s has no %s the profile %s", path,
                         is_there ? "aws_access_key_id in" : "keys of", is_wanted ? named : "default");
    return check_pair(credentials, path, ret_error);
}

/* ---- all places ---- */

static const char *ask(const struct registry_servers *servers, const char *name) {
    const char *value = registry_environment(servers, name);
    return value && *value ? value : NULL;
}

static int from_section(const struct registry_server *server, struct registry_s3_credentials *credentials,
                        struct error **ret_error) {
    credentials->access_key_id = text_copy(server->username);
    int result =
        registry_read_secret(server->password, server->password_file, &credentials->secret_access_key, ret_error);
    if (result >= 0)
        result = registry_read_secret(server->token, server->token_file, &credentials->session_token, ret_error);
    return result < 0 ? result : check_pair(credentials, "the [s3] section", ret_error);
}

static int from_environment(const struct registry_servers *servers, struct registry_s3_credentials *credentials,
                            struct error **ret_error) {
    credentials->access_key_id = text_copy(ask(servers, "AWS_ACCESS_KEY_ID"));
    credentials->secret_access_key = text_copy(ask(servers, "AWS_SECRET_ACCESS_KEY"));
    credentials->session_token = text_copy(ask(servers, "AWS_SESSION_TOKEN"));
    return check_pair(credentials, "the environment", ret_error);
}

int registry_s3_read_credentials(const struct registry_servers *servers, const struct registry_server *server,
                                 struct registry_s3_credentials *ret_credentials, struct error **ret_error) {
    struct registry_s3_credentials found = {0};
    bool is_default = !*server->name;
    int result = 0;
    if (server->username || server->password || server->password_file)
        result = from_section(server, &found, ret_error);
    else if (server->profile)
        result = from_profile(servers, server->profile, &found, ret_error);
    else if (is_default && (ask(servers, "AWS_ACCESS_KEY_ID") || ask(servers, "AWS_SECRET_ACCESS_KEY")))
        result = from_environment(servers, &found, ret_error);
    else if (is_default)
        result = from_profile(servers, NULL, &found, ret_error);
    if (result < 0) {
        registry_s3_credentials_clear(&found);
        return result;
    }
    *ret_credentials = found;
    return 0;
}
