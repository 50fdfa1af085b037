/* confined ALLOWED COMMAND...: runs the command as packaging/slipway.service has systemd run it, as far as that is a
 * matter of one process: only the system calls named in the file ALLOWED (one a line; others fail with EPERM), no
 * memory that is written and then executed, no privileges to be gained. Mounts and user are the caller's to arrange. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SET_MEMORY_DENY_WRITE_EXECUTE 65 /* prctl(2); the headers may be older than the kernel */
#define REFUSE_EXECUTE_GAIN 1

static int allow_named(scmp_filter_ctx filter, FILE *file) {
    char name[128];
    while (fgets(name, sizeof name, file)) {
        name[strcspn(name, "\n")] = 0;
        int number = seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR || number < 0) continue; /* of other machines */
        int result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
        if (result < 0) return result;
    }
    return 0;
}

static int allow_only(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return -errno;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int result = allow_named(filter, file);
    fclose(file);
    if (result == 0) result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: confined ALLOWED COMMAND...\n"), 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return perror("confined: no new privileges"), 2;
    if (prctl(SET_MEMORY_DENY_WRITE_EXECUTE, REFUSE_EXECUTE_GAIN, 0, 0, 0) < 0 && errno != EINVAL)
        return perror("confined: deny executable memory"), 2;
    int result = allow_only(argv[1]);
    if (result < 0) return fprintf(stderr, "confined: %s: %s\n", argv[1], strerror(-result)), 2;
    execv(argv[2], argv + 2);
    return perror("confined: run the command"), 2;
}
