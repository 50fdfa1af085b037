/* Packages against their records and their digests: every byte is read. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/check-internal.h"

static int take_row(void *context, struct store_rows *rows, struct error **ret_error) {
    (void)ret_error;
    struct checking *checking = context;
    const char *digest = store_text(rows, 0);
    if (!digest || strlen(digest) != 64) {
        check_find(checking, STATE_FAULT, "control.db", "restore a backup", "it names a package \"%.80s\"",
                   digest ? digest : "");
        return 0;
    }
    checking->packages = mem_resize(checking->packages, checking->package_count + 1, sizeof *checking->packages);
    struct package_look *look = &checking->packages[checking->package_count++];
    *look = (struct package_look){.users = store_text_copy(rows, 1),
                                  .has_row = store_number(rows, 2) != 0,
                                  .is_wanted = store_number(rows, 3) != 0};
    memcpy(look->digest, digest, sizeof look->digest);
    return 0;
}

int check_list_packages(struct checking *checking, struct error **ret_error) {
    return state_each_row(
        checking->cut->tx,
        "SELECT a.digest, (SELECT group_concat(DISTINCT d.name) FROM revisions r JOIN deployments d ON d.id = "
        "r.deployment_id WHERE r.package_digest = a.digest AND d.status <> 'inactive'), EXISTS (SELECT 1 FROM packages "
        "k WHERE k.digest = a.digest), EXISTS (SELECT 1 FROM pins p WHERE p.subject = 'package:' || a.digest AND "
        "substr(p.holder, 1, 9) = 'revision:') FROM (SELECT digest FROM packages UNION SELECT substr(subject, 9) FROM "
        "pins WHERE substr(subject, 1, 8) = 'package:') a",
        take_row, checking, ret_error);
}

static char *subject_of(const struct package_look *look) {
    return text_format("package sha256:%s", look->digest);
}

static char *advise(const struct package_look *look, const char *folder, bool is_there) {
    _cleanup_free_ char *first = is_there ? text_format("remove %s, then ", folder) : text_copy("");
    if (!look->users) return text_format("%snothing: no deployment uses it", is_there ? first : "");
    return text_format("%sdeploy what uses it anew (slipway update NAME URI): %s", first, look->users);
}

static void check_missing(struct checking *checking, const struct package_look *look, const char *folder) {
    if (!look->has_row && !look->is_wanted) return; /* its task is about to put it there */
    _cleanup_free_ char *subject = subject_of(look), *advice = advise(look, folder, false);
    check_find(checking, look->is_wanted ? STATE_FAULT : STATE_NOTE, subject, advice, "its folder %s is not there",
               folder);
}

static void check_one(struct checking *checking, const struct package_look *look, const char *root,
                      struct state_counter *counter) {
    _cleanup_free_ char *folder = fs_join(root, look->digest), *subject = subject_of(look);
    _cleanup_error_ struct error *error = NULL;
    struct package_info info = {0};
    if (!fs_exists(folder)) {
        check_missing(checking, look, folder);
        return;
    }
    checking->report->packages++;
    int result = package_hash_folder(folder, &info, &error);
    state_count(counter, info.size_bytes);
    if (!fs_exists(folder)) return; /* deleted meanwhile: the next look tells */
    _cleanup_free_ char *advice = advise(look, folder, true);
    if (result < 0) {
        _cleanup_free_ char *text = error_text(error);
        check_find(checking, STATE_FAULT, subject, advice, "it cannot be read: %s", text);
    } else if (strcmp(info.digest, look->digest) != 0) {
        check_find(checking, STATE_FAULT, subject, advice, "it is damaged: its files have the digest %s", info.digest);
    } else if (!look->has_row && look->is_wanted) {
        check_find_mended(checking, subject, "makes one", "its record is missing");
    }
}

static void take_name(void *context, const char *name) {
    struct checking *checking = context;
    for (size_t i = 0; i < checking->package_count; i++)
        if (!strcmp(checking->packages[i].digest, name)) return;
    _cleanup_free_ char *subject = text_format("folder packages/sha256/%s", name);
    check_find(checking, STATE_NOTE, subject, "the next start of the service removes it", "nothing knows of it");
}

void check_packages(struct checking *checking) {
    _cleanup_free_ char *root = fs_join(checking->state, STATE_PACKAGES);
    struct state_counter counter = {.progress = checking->progress, .what = "packages"};
    for (size_t i = 0; i < checking->package_count; i++) check_one(checking, &checking->packages[i], root, &counter);
    check_each_name(root, take_name, checking);
}
