#include "collection/collection_handover.h"

#include <dirent.h>

#include "base/fs.h"
#include "collection/collection-internal.h"
#include "store/store_handover.h"

static int check_one(const char *folder, struct error **ret_error) {
    static const char *const files[] = {"documents.db", "queries.db"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        _cleanup_free_ char *path = fs_join(folder, files[i]);
        int result = store_check_handover(path, &collection_schema, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

int collections_check_handover(const char *folder, struct error **ret_error) {
    DIR *found = opendir(folder);
    int result = 0;
    for (struct dirent *entry; result >= 0 && found && (entry = readdir(found));) {
        if (entry->d_name[0] == '.') continue;
        _cleanup_free_ char *path = fs_join(folder, entry->d_name);
        result = check_one(path, ret_error);
    }
    if (found) closedir(found);
    return result;
}
