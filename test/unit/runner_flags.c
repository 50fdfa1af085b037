/* The flags of `slipway runner`, and the address it binds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "runner/runner_bind-internal.h"
#include "runner/runner_flags-internal.h"

#define PARSE(flags, error, ...)                                                                                       \
    ({                                                                                                                 \
        char *words_[] = {"runner", __VA_ARGS__, NULL};                                                                \
        runner_flags_parse((int)ARRAY_SIZE(words_) - 1, words_, (flags), (error));                                     \
    })

#define REFUSES(because, ...)                                                                                          \
    do {                                                                                                               \
        struct runner_flags flags_;                                                                                    \
        _cleanup_error_ struct error *error_ = NULL;                                                                   \
        assert_int_equal(PARSE(&flags_, &error_, __VA_ARGS__), -ERROR_CONFIGURATION);                                  \
        _cleanup_free_ char *text_ = error_text(error_);                                                               \
        if (!strstr(text_, because)) fail_msg("\"%s\" does not say \"%s\"", text_, because);                           \
    } while (0)

static void flags_take_their_values_either_way(void **state) {
    (void)state;
    struct runner_flags flags;
    assert_int_equal(PARSE(&flags, NULL, "--model", "m", "--listen=127.0.0.1:9000", "--threads", "3",
                           "--memory-limit=2Gi", "--sandbox=off"),
                     0);
    assert_string_equal(flags.model, "m");
    assert_string_equal(flags.listen, "127.0.0.1:9000");
    assert_int_equal(flags.threads, 3);
    assert_int_equal(flags.memory_limit, 2ull << 30);
    assert_false(flags.sandbox);
    assert_int_equal(flags.batch_texts, 32);
    assert_int_equal(flags.batch_tokens, 4096);
    assert_null(flags.name);
}

static void wrong_flags_are_named(void **state) {
    (void)state;
    REFUSES("--model is missing", "--listen", "127.0.0.1:1");
    REFUSES("--listen is missing", "--model", "m");
    REFUSES("did you mean --model", "--modle", "m");
    REFUSES("needs a value", "--model");
    REFUSES("--threads must be", "--model", "m", "--listen", "unix:/x", "--threads", "x");
    REFUSES("--threads must be", "--model", "m", "--listen", "unix:/x", "--threads", "1025");
    REFUSES("--sandbox must be", "--model", "m", "--listen", "unix:/x", "--sandbox", "maybe");
    REFUSES("--name must", "--model", "m", "--listen", "unix:/x", "--name", "../x");
    REFUSES("--package-digest must", "--model", "m", "--listen", "unix:/x", "--package-digest",
            "ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD");
    REFUSES("--log-level", "--model", "m", "--listen", "unix:/x", "--log-level", "loud");
    REFUSES("comes --socket", "--model", "m", "--listen", "unix:/x", "--supervisor-fd", "3");
    REFUSES("runs alone", "--model", "m", "--socket", "/x", "--supervisor-fd", "3", "--sandbox", "off");
    REFUSES("--listen is missing", "--model", "m", "--socket", "/x");
}

static void help_lists_every_flag(void **state) {
    (void)state;
    struct runner_flags flags;
    assert_int_equal(PARSE(&flags, NULL, "--nonsense-before", "--help") < 0, 1);
    assert_int_equal(PARSE(&flags, NULL, "--help"), 0);
    assert_true(flags.help);
    _cleanup_free_ char *help = runner_flags_help();
    static const char *const names[] = {
#define FLAG(kind, field, flag, initial, minimum, maximum, value, help) "--" flag " ",
#include "runner/runner_flags.def"
#undef FLAG
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) assert_non_null(strstr(help, names[i]));
}

static void addresses_that_are_none_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"9000",    "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                      "host:80", "[::1:80",   "unix:",      ":80"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int descriptor = -1;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(runner_bind(bad[i], &descriptor, &error), -ERROR_CONFIGURATION);
        assert_false(error->transient);
    }
}

static void a_port_in_use_may_be_free_later(void **state) {
    (void)state;
    int first, second;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(runner_bind("127.0.0.1:0", &first, NULL), 0);
    assert_int_equal(listen(first, 1), 0);
    _cleanup_free_ char *address = runner_bound_address(first, "127.0.0.1:0");
    assert_true(runner_bind(address, &second, &error) < 0);
    assert_true(error->transient);
    close(first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_take_their_values_either_way),
        cmocka_unit_test(wrong_flags_are_named),
        cmocka_unit_test(help_lists_every_flag),
        cmocka_unit_test(addresses_that_are_none_are_refused),
        cmocka_unit_test(a_port_in_use_may_be_free_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
