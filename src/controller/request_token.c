#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/tokens.h"

#define RATE_MINIMUM 0.001
#define RATE_MAXIMUM 1e6
#define BURST_MAXIMUM 1000000

static const char *const role_names[] = {
#define TOKEN_ROLE(constant, name, may) name,
#include "http/token_roles.def"
#undef TOKEN_ROLE
};

void token_request_clear(struct token_request *request) {
    free(request->deployments_json);
    free(request->collections_json);
    *request = (struct token_request){0};
}

static int check_name(const char *what, const char *name, struct error **ret_error) {
    if (text_is_name(name) && !text_is_uuid(name)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s must be letters, digits, '.', '_' and '-', begin with a letter or digit, have at most 128 "
                     "characters and not the shape of a UUID; it is \"%.128s\"",
                     what, name);
}

static int check_role(const char *role, struct error **ret_error) {
    for (size_t i = 0; i < ARRAY_SIZE(role_names); i++)
        if (text_equal(role_names[i], role)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "role must be admin, deploy, infer or read, not \"%.64s\"", role);
}

/* The names of a limit as JSON, NULL when there is none of that kind. */
static int get_limit(yyjson_val *root, const char *field, char **ret_json, struct error **ret_error) {
    yyjson_val *array = yyjson_obj_get(root, field), *item;
    if (!array || yyjson_is_null(array)) return 0;
    if (!yyjson_is_arr(array) || yyjson_arr_size(array) > TOKEN_LIMITS_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "the field %s must be a list of at most %d names", field,
                         TOKEN_LIMITS_MAXIMUM);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        const char *name = yyjson_get_str(item);
        if (!name) return error_set(ret_error, ERROR_CONFIGURATION, "the field %s must be a list of names", field);
        int result = check_name(field, name, ret_error);
        if (result < 0) return result;
    }
    *ret_json = json_write_value(array, NULL);
    return 0;
}

/* One that is limited to deployments may use no collection but those that it names as well, and the other way round. */
static int get_limits(yyjson_val *root, struct token_request *request, struct error **ret_error) {
    int result = get_limit(root, "deployments", &request->deployments_json, ret_error);
    if (result < 0 || (result = get_limit(root, "collections", &request->collections_json, ret_error)) < 0)
        return result;
    if (!request->deployments_json && !request->collections_json) return 0;
    if (!request->deployments_json) request->deployments_json = text_copy("[]");
    if (!request->collections_json) request->collections_json = text_copy("[]");
    if (text_equal(request->role, "admin"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "a token of role admin cannot be limited: it could make another that is not");
    if (text_equal(request->deployments_json, "[]") && text_equal(request->collections_json, "[]"))
        return error_set(ret_error, ERROR_CONFIGURATION, "the token would be limited to nothing: name something");
    return 0;
}

static int get_rate(yyjson_val *root, struct token_request *request, struct error **ret_error) {
    double rate = 0;
    int64_t burst = 0;
    int result = json_get_real(root, "", "rate", false, RATE_MINIMUM, RATE_MAXIMUM, &rate, ret_error);
    if (result < 0 || (result = json_get_number(root, "", "burst", false, 1, BURST_MAXIMUM, &burst, ret_error)) < 0)
        return result;
    if (burst && rate <= 0)
        return error_set(ret_error, ERROR_CONFIGURATION, "burst is how many at once of a rate: give rate as well");
    request->rate_milli = llround(rate * 1000);
    request->burst = rate <= 0 ? 0 : burst ? burst : (int64_t)ceil(rate);
    return 0;
}

int token_request_parse(yyjson_val *root, struct token_request *ret_request, struct error **ret_error) {
    static const char *const known[] = {"name", "role", "deployments", "collections", "rate", "burst"};
    _cleanup_token_request_ struct token_request request = {0};
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = json_get_text(root, "", "name", true, &request.name, ret_error)) < 0 ||
        (result = json_get_text(root, "", "role", true, &request.role, ret_error)) < 0 ||
        (result = check_name("name", request.name, ret_error)) < 0 ||
        (result = check_role(request.role, ret_error)) < 0 || (result = get_limits(root, &request, ret_error)) < 0 ||
        (result = get_rate(root, &request, ret_error)) < 0)
        return result;
    *ret_request = request;
    request = (struct token_request){0};
    return 0;
}
