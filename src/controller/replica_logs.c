/* The logs of replicas. The supervisor opens them, the API shows the ends of those whose replica has a row; when the
 * row goes, so does the log, or the folder would grow with every update. What matters of it, the last words of one that
 * died, is in the events by then. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

#define ID_LENGTH 36
#define TAIL_BYTES 262144u

void replica_log_remove(struct controller *controller, const char *replica_id) {
    static const char *const endings[] = {"log", "log.1", "log.new"};
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        _cleanup_free_ char *path = text_format("%s/logs/%s.%s", controller->settings->state, replica_id, endings[i]);
        unlink(path);
    }
}

int replica_logs_remove_stale(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(controller->settings->state, "logs");
    DIR *folder = opendir(path);
    int result = 0;
    for (struct dirent *entry; folder && result >= 0 && (entry = readdir(folder));) {
        char id[ID_LENGTH + 1] = {0};
        memcpy(id, entry->d_name, strnlen(entry->d_name, ID_LENGTH));
        int64_t rows = 0;
        if (!text_is_uuid(id) || entry->d_name[ID_LENGTH] != '.') continue;
        result = store_ask_number(tx, &rows, ret_error, "SELECT count(*) FROM replicas WHERE id = ?", "t", id);
        if (result >= 0 && !rows) replica_log_remove(controller, id);
    }
    if (folder) closedir(folder);
    return result < 0 ? result : 0;
}

char *replica_log_tail(struct controller *controller, const char *replica_id) {
    _cleanup_free_ char *path = text_format("%s/logs/%s.log", controller->settings->state, replica_id);
    _cleanup_free_ char *aside = text_format("%s.1", path);
    _cleanup_free_ char *tail = fs_read_tail(path, TAIL_BYTES);
    size_t size = strlen(tail);
    _cleanup_free_ char *older = size < TAIL_BYTES / 2 ? fs_read_tail(aside, TAIL_BYTES - size) : text_copy("");
    size_t older_size = strlen(older);
    return text_format("%s%s%s", older, older_size && older[older_size - 1] != '\n' ? "\n" : "", tail);
}
