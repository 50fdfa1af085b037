/* libslipway's calls on tokens, against a service that answers by a script: what is sent, and what is made of the
 * answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "slipway.h"
#include "support/scripted.h"

#define START(...)                                                                                                     \
    static const struct scripted_answer answers[] = {__VA_ARGS__};                                                     \
    struct scripted *peer = scripted_start(answers, ARRAY_SIZE(answers));                                              \
    struct slipway *service = NULL;                                                                                    \
    struct slipway_error *error = NULL;                                                                                \
    assert_int_equal(slipway_open(scripted_url(peer), NULL, &service, &error), 0)

static void stop(struct scripted *peer, struct slipway *service, struct slipway_error *error) {
    slipway_error_free(error);
    slipway_close(service);
    scripted_stop(peer);
}

static void a_token_is_made_with_its_limits_and_told(void **state) {
    (void)state;
    START({"POST /v1/tokens", 201,
           "{\"token_id\":\"t-1\",\"name\":\"ci\",\"role\":\"deploy\",\"deployments\":[\"a\",\"b\"],\"collections\":[],"
           "\"rate\":0.5,\"burst\":7,\"created_at\":\"2026-11-21T00:00:00.000Z\",\"token\":\"slp_x\"}",
           0});
    const char *const deployments[] = {"a", "b"};
    const struct slipway_token_request request = {
        .name = "ci", .role = "deploy", .deployments = deployments, .deployment_count = 2, .rate = 0.5, .burst = 7};
    struct slipway_token *token = NULL;
    assert_int_equal(slipway_create_token(service, &request, &token, &error), 0);
    assert_string_equal(strchr(scripted_request(peer, 0), '{'),
                        "{\"name\":\"ci\",\"role\":\"deploy\",\"deployments\":[\"a\",\"b\"],\"rate\":0.5,\"burst\":7}");
    assert_string_equal(token->token, "slp_x");
    assert_string_equal(token->name, "ci");
    assert_true(token->is_limited);
    assert_int_equal(token->deployment_count, 2);
    assert_string_equal(token->deployments[1], "b");
    assert_non_null(token->collections);
    assert_int_equal(token->collection_count, 0);
    assert_true(token->rate > 0.4 && token->rate < 0.6 && token->burst == 7);
    assert_null(token->revoked_at);
    slipway_token_free(token);
    stop(peer, service, error);
}

static void a_plain_token_asks_for_no_limits(void **state) {
    (void)state;
    START({"POST /v1/tokens", 201, "{\"name\":\"p\",\"role\":\"read\",\"token\":\"slp_y\"}", 0});
    const struct slipway_token_request request = {.name = "p", .role = "read"};
    struct slipway_token *token = NULL;
    assert_int_equal(slipway_create_token(service, &request, &token, &error), 0);
    assert_string_equal(strchr(scripted_request(peer, 0), '{'), "{\"name\":\"p\",\"role\":\"read\"}");
    assert_false(token->is_limited);
    assert_null(token->deployments);
    slipway_token_free(token);
    stop(peer, service, error);
}

static void tokens_are_listed_and_revoked_by_name(void **state) {
    (void)state;
    START({"GET /v1/tokens?limit=2&offset=1", 200,
           "[{\"name\":\"one\",\"role\":\"read\"},{\"name\":\"two\",\"role\":\"admin\",\"revoked_at\":\"then\"}]", 0},
          {"DELETE /v1/tokens/two%2F", 200, "{\"name\":\"two/\",\"revoked_at\":\"then\",\"detail\":\"wait\"}", 0},
          {"DELETE /v1/tokens/one", 200, "{\"name\":\"one\",\"revoked_at\":\"now\"}", 0});
    struct slipway_token_list *list = NULL;
    assert_int_equal(slipway_list_tokens(service, 2, 1, &list, &error), 0);
    assert_int_equal(list->count, 2);
    assert_string_equal(list->tokens[0]->name, "one");
    assert_string_equal(list->tokens[1]->revoked_at, "then");
    assert_null(list->tokens[0]->token);
    slipway_token_list_free(list);
    struct slipway_token *token = NULL;
    assert_int_equal(slipway_revoke_token(service, "two/", &token, &error), 0);
    assert_string_equal(token->detail, "wait");
    slipway_token_free(token);
    assert_int_equal(slipway_revoke_token(service, "one", NULL, &error), 0);
    stop(peer, service, error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_made_with_its_limits_and_told),
        cmocka_unit_test(a_plain_token_asks_for_no_limits),
        cmocka_unit_test(tokens_are_listed_and_revoked_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
