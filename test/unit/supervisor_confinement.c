/* What serve says where the kernel cannot confine runners fully; each case in a child for which a filter stands in for
 * such a kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "supervisor/supervisor-internal.h"

#define LANDLOCK_CREATE_RULESET 444

static void take_away(int call) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter || seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0) || seccomp_load(filter)) _exit(100);
    seccomp_release(filter);
}

/* What the check gives on a kernel without this call, or 101 when its sentence does not have the word. */
static int check_without(int call, bool required, const char *word) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        struct settings *settings = settings_new();
        struct error *error = NULL;
        settings->sandbox_required = required;
        if (call) take_away(call);
        int result = confinement_check(settings, &error);
        _exit(word && (!error || !strstr(error->message, word)) ? 101 : result);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_kernel_that_has_all_is_fine(void **state) {
    (void)state;
    assert_int_equal(check_without(0, true, NULL), SERVE_EXIT_OK);
}

static void a_kernel_that_lacks_a_piece_is_refused_when_all_is_required(void **state) {
    (void)state;
    assert_int_equal(check_without(LANDLOCK_CREATE_RULESET, true, "no Landlock"), SERVE_EXIT_CONFINEMENT);
    assert_int_equal(check_without(SCMP_SYS(seccomp), true, "no seccomp filters"), SERVE_EXIT_CONFINEMENT);
}

static void a_kernel_that_lacks_a_piece_is_put_up_with_otherwise(void **state) {
    (void)state;
    assert_int_equal(check_without(LANDLOCK_CREATE_RULESET, false, NULL), SERVE_EXIT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_that_has_all_is_fine),
        cmocka_unit_test(a_kernel_that_lacks_a_piece_is_refused_when_all_is_required),
        cmocka_unit_test(a_kernel_that_lacks_a_piece_is_put_up_with_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
