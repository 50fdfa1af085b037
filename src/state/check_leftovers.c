/* What processes that were killed left behind. None of it does harm; most goes at the next start. */
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/check-internal.h"

#define AT_START "the next start of the service removes it"

static void take_incoming(void *context, const char *name) {
    struct checking *checking = context;
    int64_t working = 0;
    if (check_ask_number(checking, &working, NULL,
                         "SELECT count(*) FROM tasks WHERE id = ? AND status IN ('pending', 'processing')", name) < 0 ||
        working)
        return;
    _cleanup_free_ char *subject = text_format("folder packages/incoming/%s", name);
    check_find(checking, STATE_NOTE, subject, AT_START, "a task that has ended was fetching into it");
}

static void take_trash(void *context, const char *name) {
    _cleanup_free_ char *subject = text_format("folder packages/trash/%s", name);
    check_find(context, STATE_NOTE, subject, AT_START, "a package was being deleted");
}

/* A replica's socket, <replica>.<incarnation>, goes when the replica is stopped. A service that runs knows which of
 * them live; where none runs, none does. The sockets of the service itself have a place each, and stay there. */
static bool is_replica_socket(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && dot[1] && strspn(dot + 1, "0123456789") == strlen(dot + 1);
}

static void take_socket(void *context, const char *name) {
    struct checking *checking = context;
    _cleanup_free_ char *path = text_format("%s/run/%s", checking->state, name);
    struct stat status;
    if (checking->report->is_running || !is_replica_socket(name) || lstat(path, &status) || !S_ISSOCK(status.st_mode))
        return;
    _cleanup_free_ char *subject = text_format("socket run/%s", name);
    check_find(checking, STATE_NOTE, subject, AT_START, "its process has ended");
}

static void take_top(void *context, const char *name) {
    struct checking *checking = context;
    bool is_unfinished = text_ends_with(name, ".new") || text_ends_with(name, ".part");
    if (!is_unfinished && strcmp(name, "probe") != 0) return;
    _cleanup_free_ char *subject = text_format("file %s", name);
    check_find(checking, STATE_NOTE, subject, "remove it", "something was killed while it wrote it");
}

int check_leftovers(struct checking *checking, struct error **ret_error) {
    (void)ret_error;
    static const struct {
        const char *folder;
        void (*take)(void *context, const char *name);
    } folders[] = {
        {"packages/incoming", take_incoming}, {"packages/trash", take_trash}, {"run", take_socket}, {"", take_top}};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        _cleanup_free_ char *path =
            *folders[i].folder ? fs_join(checking->state, folders[i].folder) : text_copy(checking->state);
        check_each_name(path, folders[i].take, checking);
    }
    _cleanup_free_ char *part = text_format("%s.part", checking->state);
    if (fs_exists(part))
        check_find(checking, STATE_NOTE, part, "remove it, unless a restore is running",
                   "a restore to this folder did not come to its end");
    return 0;
}
