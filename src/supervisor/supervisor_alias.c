/* A short name for the state folder.
 *
 * The address of a unix socket has 108 bytes, and sockets lie in <state>/run. Where the state folder's own name leaves
 * too little of them, the roles get another name for it: a symbolic link in a private folder (mode 0700, a random name)
 * of $XDG_RUNTIME_DIR, /run or /tmp. All that they open under settings->state is then the same folder, so that nothing
 * but this file knows of it. The private folder is locked, which keeps cleaners of /tmp away, and <state>/alias
 * remembers its name, so that the next serve removes what a killed one left. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

/* "/run/", eight characters of a replica's id, a dot, the incarnation, and the NUL. */
#define ROOM_FOR_SOCKETS (5 + 8 + 1 + 12 + 1)
#define STATE_MAXIMUM (sizeof((struct sockaddr_un *)0)->sun_path - ROOM_FOR_SOCKETS)
#define LINK_NAME "state"
#define PATTERN "slipway-XXXXXX"

static void remove_folder(const char *folder) {
    _cleanup_free_ char *link = fs_join(folder, LINK_NAME);
    unlink(link);
    rmdir(folder);
}

/* Removes what a killed serve left, if it is still that: a link to this state folder. */
static void remove_left_over(const char *state, const char *record) {
    _cleanup_free_ char *folder = NULL;
    if (fs_read_file(record, 4096, &folder, NULL, NULL)) return;
    unlink(record);
    _cleanup_free_ char *link = fs_join(folder, LINK_NAME);
    char target[4097];
    ssize_t size = readlink(link, target, sizeof target - 1);
    if (size < 0) return;
    target[size] = 0;
    if (!strcmp(target, state)) remove_folder(folder);
}

static char *make_folder(void) {
    const char *const bases[] = {getenv("XDG_RUNTIME_DIR"), "/run", "/tmp"};
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
        if (!bases[i] || *bases[i] != '/' || strlen(bases[i]) + sizeof "/" PATTERN "/" LINK_NAME > STATE_MAXIMUM)
            continue;
        char *folder = fs_join(bases[i], PATTERN);
        if (mkdtemp(folder)) return folder;
        free(folder);
    }
    return NULL;
}

int alias_make(struct supervisor *supervisor, struct error **ret_error) {
    _cleanup_free_ char *record = fs_join(supervisor->state, "alias");
    remove_left_over(supervisor->state, record);
    if (strlen(supervisor->state) <= STATE_MAXIMUM) return SERVE_EXIT_OK;
    supervisor->alias_folder = make_folder();
    if (!supervisor->alias_folder) {
        error_set(
            ret_error, ERROR_CONFIGURATION,
            "the state folder's path %s is too long for sockets (%zu bytes at most), and neither /run nor /tmp can be "
            "written for a shorter name; use a shorter path",
            supervisor->state, STATE_MAXIMUM);
        return SERVE_EXIT_UNWRITABLE;
    }
    const char *folder = supervisor->alias_folder;
    _cleanup_free_ char *link = fs_join(folder, LINK_NAME);
    if (fs_write_file(record, folder, strlen(folder), ret_error)) return SERVE_EXIT_UNWRITABLE;
    if (symlink(supervisor->state, link) < 0) {
        error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "make the link %s", link);
        return SERVE_EXIT_UNWRITABLE;
    }
    supervisor->alias_lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (supervisor->alias_lock >= 0) flock(supervisor->alias_lock, LOCK_EX | LOCK_NB);
    free(supervisor->settings->state);
    supervisor->settings->state = TAKE(link);
    return SERVE_EXIT_OK;
}

void alias_remove(struct supervisor *supervisor) {
    if (!supervisor->alias_folder) return;
    _cleanup_free_ char *record = fs_join(supervisor->state, "alias");
    remove_folder(supervisor->alias_folder);
    unlink(record);
    mem_close_descriptor(&supervisor->alias_lock);
    free(supervisor->alias_folder);
    supervisor->alias_folder = NULL;
}
