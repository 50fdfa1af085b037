/* Archives from outside: what a model needs of them, and nothing else. They are made here by libarchive's other half.
 */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "support/scratch.h"

struct place {
    char *folder;
    struct registry_context context;
    struct error *error;
};

struct entry {
    const char *path, *data; /* data NULL: nothing */
    mode_t type; /* 0: a file */
    const char *link; /* where a link leads to */
    bool is_hard;
};

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    scratch_free(place->folder);
    error_free(place->error);
    free(place);
    return 0;
}

/* ---- making them ---- */

enum kind { TAR, TAR_GZ, TAR_ZST, ZIP, KIND_COUNT };

static struct archive *begin(struct place *place, enum kind kind) {
    struct archive *archive = archive_write_new();
    if (kind == ZIP)
        archive_write_set_format_zip(archive);
    else
        archive_write_set_format_pax_restricted(archive);
    if (kind == TAR_GZ) archive_write_add_filter_gzip(archive);
    if (kind == TAR_ZST) archive_write_add_filter_zstd(archive);
    archive_write_set_options(archive, "hdrcharset=UTF-8");
    _cleanup_free_ char *path = scratch_path(place->folder, "archive");
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    return archive;
}

static void end(struct archive *archive) {
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
}

static void add(struct archive *archive, const struct entry *entry) {
    struct archive_entry *header = archive_entry_new();
    archive_entry_set_pathname(header, entry->path);
    archive_entry_set_filetype(header, entry->type ? entry->type : AE_IFREG);
    archive_entry_set_perm(header, 0644);
    archive_entry_set_size(header, entry->data ? (la_int64_t)strlen(entry->data) : 0);
    if (entry->link && entry->is_hard) archive_entry_set_hardlink(header, entry->link);
    if (entry->link && !entry->is_hard) archive_entry_set_symlink(header, entry->link);
    assert_int_equal(archive_write_header(archive, header), ARCHIVE_OK);
    if (entry->data) archive_write_data(archive, entry->data, strlen(entry->data));
    archive_entry_free(header);
}

static void make(struct place *place, enum kind kind, const struct entry *entries, size_t count) {
    struct archive *archive = begin(place, kind);
    for (size_t i = 0; i < count; i++) add(archive, &entries[i]);
    end(archive);
}

static int unpack(struct place *place) {
    return registry_unpack(&place->context, place->folder, "archive", &place->error);
}

static void expect_success(struct place *place, int result) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(place->error);
    fail_msg("%s", text);
}

static void expect_error(struct place *place, int result, enum error_class class, const char *part) {
    _cleanup_free_ char *text = error_text(place->error);
    if (result != -(int)class || !strstr(text, part)) fail_msg("got %d: %s", result, result < 0 ? text : "success");
    error_free(TAKE(place->error));
}

static void expect_text(struct place *place, const char *name, const char *wanted) {
    _cleanup_free_ char *text = scratch_read(place->folder, name, NULL);
    if (!text) fail_msg("there is no %s", name);
    assert_string_equal(text, wanted);
}

/* ---- what there may be ---- */

static void every_kind_is_unpacked_and_removed(void **state) {
    struct place *place = *state;
    static const struct entry entries[] = {{.path = "config.json", .data = "{}"},
                                           {.path = "onnx/", .type = AE_IFDIR},
                                           {.path = "onnx/model.onnx", .data = "weights"},
                                           {.path = "empty"}};
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        make(place, kind, entries, ARRAY_SIZE(entries));
        expect_success(place, unpack(place));
        expect_text(place, "config.json", "{}");
        expect_text(place, "onnx/model.onnx", "weights");
        expect_text(place, "empty", "");
        assert_int_equal(scratch_count(place->folder, ""), 3); /* neither the archive nor a folder of its own */
        scratch_free(TAKE(place->folder));
        place->folder = scratch_new();
    }
}

static void names_are_utf8_whatever_the_locale_is(void **state) {
    struct place *place = *state;
    for (enum kind kind = TAR; kind < KIND_COUNT; kind++) {
        setlocale(LC_CTYPE, "C.UTF-8"); /* the writer needs it */
        struct archive *archive = begin(place, kind);
        struct archive_entry *header = archive_entry_new();
        archive_entry_set_pathname_utf8(header, "ünïcode/模型.txt");
        archive_entry_set_filetype(header, AE_IFREG);
        archive_entry_set_size(header, 1);
        archive_write_header(archive, header);
        archive_write_data(archive, "x", 1);
        archive_entry_free(header);
        add(archive, &(struct entry){.path = "a"});
        end(archive);
        setlocale(LC_CTYPE, "C");
        expect_success(place, unpack(place));
        expect_text(place, "ünïcode/模型.txt", "x");
        scratch_free(TAKE(place->folder));
        place->folder = scratch_new();
    }
}

static void a_folder_around_everything_is_taken_away(void **state) {
    struct place *place = *state;
    static const struct entry entries[] = {{.path = "./", .type = AE_IFDIR},
                                           {.path = "./minilm/", .type = AE_IFDIR},
                                           {.path = "./minilm/model.onnx", .data = "weights"},
                                           {.path = "./minilm/minilm/vocab.txt", .data = "a"}};
    make(place, TAR_GZ, entries, ARRAY_SIZE(entries));
    expect_success(place, unpack(place));
    expect_text(place, "model.onnx", "weights");
    expect_text(place, "minilm/vocab.txt", "a");
}

static void archives_are_known_by_name_and_by_their_first_bytes(void **state) {
    struct place *place = *state;
    static const char *const names[] = {"m.tar", "m.tar.gz", "M.TGZ", "m.tar.zst", "m.tzst", "m.zip"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) assert_true(registry_is_archive(names[i]));
    assert_false(registry_is_archive("model.onnx"));
    assert_false(registry_is_archive(".zip"));
    assert_false(registry_is_archive("m.gz"));
    static const struct entry entries[] = {{.path = "a", .data = "b"}};
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        make(place, kind, entries, ARRAY_SIZE(entries));
        size_t size;
        _cleanup_free_ char *bytes = scratch_read(place->folder, "archive", &size);
        assert_true(registry_bytes_are_archive(bytes, size));
    }
    assert_false(registry_bytes_are_archive("\x08\x07onnx", 6));
    assert_false(registry_bytes_are_archive("", 0));
}

/* ---- what there may not be ---- */

static void refuse(struct place *place, enum kind kind, const struct entry *entries, size_t count, const char *part) {
    make(place, kind, entries, count);
    expect_error(place, unpack(place), ERROR_CONFIGURATION, part);
}

static void links_devices_and_pipes_are_refused(void **state) {
    struct place *place = *state;
    static const struct {
        struct entry entry;
        const char *part;
    } cases[] = {{{.path = "l", .type = AE_IFLNK, .link = "/etc/passwd"}, "symbolic link"},
                 {{.path = "l", .type = AE_IFLNK, .link = "model.onnx"}, "symbolic link"},
                 {{.path = "l", .link = "/etc/passwd", .is_hard = true}, "hard link"},
                 {{.path = "l", .link = "model.onnx", .is_hard = true}, "hard link"},
                 {{.path = "d", .type = AE_IFCHR}, "device"},
                 {{.path = "d", .type = AE_IFBLK}, "device"},
                 {{.path = "p", .type = AE_IFIFO}, "pipe"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct entry entries[] = {{.path = "model.onnx", .data = "weights"}, cases[i].entry};
        refuse(place, TAR, entries, 2, cases[i].part);
        assert_false(scratch_exists(place->folder, cases[i].entry.path));
    }
    static const struct entry zipped[] = {{.path = "l", .type = AE_IFLNK, .link = "/etc/passwd"}};
    refuse(place, ZIP, zipped, 1, "symbolic link");
}

static void names_that_lead_elsewhere_are_refused(void **state) {
    struct place *place = *state;
    static const char *const names[] = {"../evil", "a/../../evil", "/tmp/evil", "a//b",
                                        "a/./b",   "a/..",         "bell\a",    ".."};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct entry entry = {.path = names[i], .data = "x"};
        refuse(place, TAR, &entry, 1, "the name");
        refuse(place, ZIP, &entry, 1, "the name");
    }
}

static void a_name_that_stands_twice_is_refused(void **state) {
    struct place *place = *state;
    static const struct entry twice[] = {{.path = "a", .data = "1"}, {.path = "a", .data = "2"}};
    refuse(place, TAR, twice, 2, "twice");
    static const struct entry both[] = {{.path = "a", .data = "1"}, {.path = "a/b", .data = "2"}};
    refuse(place, TAR, both, 2, "twice");
    static const struct entry other[] = {{.path = "a/b", .data = "1"}, {.path = "a", .data = "2"}};
    refuse(place, TAR, other, 2, "twice");
}

static void names_that_differ_in_case_only_are_refused(void **state) {
    struct place *place = *state;
    static const struct entry files[] = {{.path = "Model.onnx", .data = "1"}, {.path = "model.onnx", .data = "2"}};
    refuse(place, TAR, files, 2, "case");
    static const struct entry folders[] = {{.path = "Onnx/a", .data = "1"}, {.path = "onnx/b", .data = "2"}};
    refuse(place, ZIP, folders, 2, "case");
}

static void an_archive_without_a_file_is_no_model(void **state) {
    struct place *place = *state;
    static const struct entry entries[] = {{.path = "only/", .type = AE_IFDIR}};
    make(place, TAR, entries, 1);
    expect_error(place, unpack(place), ERROR_MODEL_REGISTRY, "no files");
}

static void a_hundred_thousand_files_are_too_many_for_ten_thousand(void **state) {
    struct place *place = *state;
    place->context.file_maximum = 10000;
    struct archive *archive = begin(place, TAR_GZ);
    for (int i = 0; i < 100000; i++) {
        char path[32];
        snprintf(path, sizeof path, "%d/%d", i % 1000, i);
        add(archive, &(struct entry){.path = path});
    }
    end(archive);
    expect_error(place, unpack(place), ERROR_CONFIGURATION, "10000 files");
}

static void folders_are_counted_too(void **state) {
    struct place *place = *state;
    struct archive *archive = begin(place, TAR_GZ);
    for (int i = 0; i < 200001; i++) add(archive, &(struct entry){.path = "a/", .type = AE_IFDIR});
    end(archive);
    expect_error(place, unpack(place), ERROR_CONFIGURATION, "200000 files and folders");
}

static void what_is_too_large_is_refused_by_claim_and_by_what_comes(void **state) {
    struct place *place = *state;
    place->context.size_maximum = 9;
    static const struct entry entries[] = {{.path = "a", .data = "12345"}, {.path = "b", .data = "12345"}};
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) refuse(place, kind, entries, 2, "9 B");
}

/* A file of 1 TB, of which all but one byte is a hole. */
static void a_sparse_claim_of_a_terabyte_is_refused(void **state) {
    struct place *place = *state;
    for (int with_ceiling = 0; with_ceiling < 2; with_ceiling++) {
        struct archive *archive = begin(place, TAR);
        struct archive_entry *header = archive_entry_new();
        archive_entry_set_pathname(header, "model.onnx");
        archive_entry_set_filetype(header, AE_IFREG);
        archive_entry_set_size(header, 1ll << 40);
        archive_entry_sparse_add_entry(header, (1ll << 40) - 1, 1);
        assert_int_equal(archive_write_header(archive, header), ARCHIVE_OK);
        archive_write_data(archive, "x", 1);
        archive_entry_free(header);
        archive_write_close(archive);
        archive_write_free(archive);
        place->context.size_maximum = with_ceiling ? 1ull << 20 : 0;
        expect_error(place, unpack(place), ERROR_CONFIGURATION, with_ceiling ? "1.0 MiB" : "hundred times");
    }
}

static void a_bomb_is_refused_before_it_fills_the_disk(void **state) {
    struct place *place = *state;
    static char zeros[1 << 20];
    struct archive *archive = begin(place, TAR_ZST);
    struct archive_entry *header = archive_entry_new();
    archive_entry_set_pathname(header, "model.onnx");
    archive_entry_set_filetype(header, AE_IFREG);
    archive_entry_set_size(header, 300ll << 20);
    archive_write_header(archive, header);
    for (int i = 0; i < 300; i++) archive_write_data(archive, zeros, sizeof zeros);
    archive_entry_free(header);
    end(archive);
    expect_error(place, unpack(place), ERROR_CONFIGURATION, "hundred times");
}

static void a_broken_archive_is_the_registrys_fault(void **state) {
    struct place *place = *state;
    static const struct entry entries[] = {{.path = "a", .data = "some bytes that are here"},
                                           {.path = "b", .data = "x"}};
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        make(place, kind, entries, 2);
        _cleanup_free_ char *path = scratch_path(place->folder, "archive");
        struct stat status;
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(truncate(path, kind == TAR ? 520 : status.st_size / 2), 0);
        expect_error(place, unpack(place), ERROR_MODEL_REGISTRY, "broken");
    }
    scratch_write_text(place->folder, "archive", "<html>not an archive at all</html>");
    expect_error(place, unpack(place), ERROR_MODEL_REGISTRY, "broken");
}

static void what_is_canceled_ends(void **state) {
    struct place *place = *state;
    static atomic_bool canceled = true;
    static const struct entry entries[] = {{.path = "a", .data = "b"}};
    place->context.canceled = &canceled;
    make(place, TAR, entries, 1);
    expect_error(place, unpack(place), ERROR_UNAVAILABLE, "canceled");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(every_kind_is_unpacked_and_removed),
        CASE(names_are_utf8_whatever_the_locale_is),
        CASE(a_folder_around_everything_is_taken_away),
        CASE(archives_are_known_by_name_and_by_their_first_bytes),
        CASE(links_devices_and_pipes_are_refused),
        CASE(names_that_lead_elsewhere_are_refused),
        CASE(a_name_that_stands_twice_is_refused),
        CASE(names_that_differ_in_case_only_are_refused),
        CASE(an_archive_without_a_file_is_no_model),
        CASE(a_hundred_thousand_files_are_too_many_for_ten_thousand),
        CASE(folders_are_counted_too),
        CASE(what_is_too_large_is_refused_by_claim_and_by_what_comes),
        CASE(a_sparse_claim_of_a_terabyte_is_refused),
        CASE(a_bomb_is_refused_before_it_fills_the_disk),
        CASE(a_broken_archive_is_the_registrys_fault),
        CASE(what_is_canceled_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
