/* Archives from outside: what becomes files, and what is refused. The archives are written by libarchive. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
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
#include "package/package_image.h"
#include "package/package_import.h"
#include "support/scratch.h"

static struct error *error;
static const struct package_import_limits plenty = {.size_maximum = 1u << 30, .file_maximum = 1000};

static void expect_success(int result) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    fail_msg("got %d: %s", result, text);
}

static void expect_refused(int result, const char *words) {
    _cleanup_free_ char *text = error_text(error);
    if (result != -(int)ERROR_CONFIGURATION || !strstr(text, words))
        fail_msg("got %d: %s", result, result < 0 ? text : "success");
    error_free(error);
    error = NULL;
}

struct bed {
    char *folder, *target, *path;
};

static int set_up(void **state) {
    struct bed *bed = mem_new(struct bed);
    bed->folder = scratch_new();
    bed->target = scratch_path(bed->folder, "target");
    bed->path = scratch_path(bed->folder, "archive");
    scratch_make_folder(bed->folder, "target");
    *state = bed;
    return 0;
}

static int tear_down(void **state) {
    struct bed *bed = *state;
    scratch_free(bed->folder);
    free(bed->target);
    free(bed->path);
    free(bed);
    return 0;
}

/* ---- writing archives ---- */

struct item {
    const char *name, *text;
    unsigned type; /* 0: a file */
    const char *link;
};

static void write_archive(struct bed *bed, const char *format, const char *filter, const struct item *items,
                          size_t count) {
    setlocale(LC_CTYPE, "C.UTF-8"); /* for the writer; reading must not need it */
    struct archive *archive = archive_write_new();
    assert_int_equal(archive_write_set_format_by_name(archive, format), ARCHIVE_OK);
    if (filter) assert_int_equal(archive_write_add_filter_by_name(archive, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(archive, bed->path), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *entry = archive_entry_new();
        size_t size = items[i].text ? strlen(items[i].text) : 0;
        archive_entry_set_pathname(entry, items[i].name);
        archive_entry_set_filetype(entry, items[i].type ? items[i].type : AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (int64_t)size);
        if (items[i].type == AE_IFLNK)
            archive_entry_set_symlink(entry, items[i].link);
        else if (items[i].link)
            archive_entry_set_hardlink(entry, items[i].link);
        assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
        if (size) assert_int_equal(archive_write_data(archive, items[i].text, size), size);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
    setlocale(LC_CTYPE, "C");
}

static int read_archive(struct bed *bed, const struct package_import_limits *limits, struct package_import *import) {
    int file = open(bed->path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    int result = package_import_read(file, bed->target, limits, import, &error);
    close(file);
    return result;
}

static void expect_file(struct bed *bed, const char *name, const char *text) {
    size_t size = 0;
    _cleanup_free_ char *bytes = scratch_read(bed->target, name, &size);
    if (!bytes || strcmp(bytes, text)) fail_msg("%s is \"%s\"", name, bytes ? bytes : "not there");
}

#define PLAIN(name, text)                                                                                              \
    { name, text, 0, NULL }
#define MODEL                                                                                                          \
    PLAIN("m/model.onnx", "weights"), PLAIN("m/1_Pooling/config.json", "{}"),                                          \
        PLAIN("m/\xc3\xa4/\xce\xb2.txt", "letters")

static void every_kind_of_archive_gives_the_same_tree(void **state) {
    static const struct item items[] = {MODEL};
    static const char *const kinds[][2] = {{"ustar", NULL}, {"paxr", NULL},    {"gnutar", NULL},
                                           {"pax", "gzip"}, {"ustar", "zstd"}, {"zip", NULL}};
    struct bed *bed = *state;
    char first[65] = "";
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct package_import import = {0};
        struct package_info info = {0};
        write_archive(bed, kinds[i][0], kinds[i][1], items, ARRAY_SIZE(items));
        expect_success(read_archive(bed, &plenty, &import));
        assert_false(import.is_image);
        expect_file(bed, "model.onnx", "weights"); /* the folder that all lies in is the model */
        expect_file(bed, "\xc3\xa4/\xce\xb2.txt", "letters");
        expect_success(package_hash_folder(bed->target, &info, &error));
        if (!i) memcpy(first, info.digest, sizeof first);
        assert_string_equal(info.digest, first);
        expect_success(package_remove_folder(bed->target, &error));
        scratch_make_folder(bed->folder, "target");
    }
}

static void files_beside_each_other_keep_their_folders(void **state) {
    static const struct item items[] = {PLAIN("./model.onnx", "w"), PLAIN("./sub/x", "1")};
    struct package_import import = {0};
    write_archive(*state, "ustar", NULL, items, ARRAY_SIZE(items));
    expect_success(read_archive(*state, &plenty, &import));
    expect_file(*state, "model.onnx", "w");
    expect_file(*state, "sub/x", "1");
}

static void what_is_no_plain_file_is_refused_before_anything_is_written(void **state) {
    static const struct {
        struct item item;
        const char *words;
    } wrong[] = {
        {{"b", NULL, AE_IFLNK, "/etc/passwd"}, "is a link"},
        {{"b", NULL, 0, "a"}, "is a link"},
        {{"b", NULL, AE_IFCHR, NULL}, "a device"},
        {{"b", NULL, AE_IFIFO, NULL}, "a pipe"},
        {{"/b", "x", 0, NULL}, "is absolute"},
        {{"c/../../b", "x", 0, NULL}, "leads elsewhere"},
        {{"..", "x", 0, NULL}, "leads elsewhere"},
        {{"c/./b", "x", 0, NULL}, "leads elsewhere"},
        {{"b\\c", "x", 0, NULL}, "backslash"},
        {{"b\xff", "x", 0, NULL}, "not UTF-8"},
    };
    struct bed *bed = *state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        const struct item items[] = {{"a", "good", 0, NULL}, wrong[i].item};
        struct package_import import = {0};
        write_archive(bed, "gnutar", NULL, items, ARRAY_SIZE(items));
        expect_refused(read_archive(bed, &plenty, &import), wrong[i].words);
        assert_int_equal(scratch_count(bed->folder, "target"), 0);
    }
}

static void names_that_clash_are_refused(void **state) {
    static const struct item twice[] = {PLAIN("a", "1"), PLAIN("a", "2")},
                             file_and_folder[] = {PLAIN("a", "1"), PLAIN("a/b", "2")},
                             by_case[] = {PLAIN("a/Model", "1"), PLAIN("a/model", "2")},
                             folder_by_case[] = {PLAIN("a", "1"), PLAIN("A/b", "2")};
    static const struct {
        const struct item *items;
        const char *words;
    } wrong[] = {
        {twice, "twice"}, {file_and_folder, "a file and a folder"}, {by_case, "case"}, {folder_by_case, "case"}};
    struct bed *bed = *state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct package_import import = {0};
        write_archive(bed, "ustar", NULL, wrong[i].items, 2);
        expect_refused(read_archive(bed, &plenty, &import), wrong[i].words);
        expect_success(package_remove_folder(bed->target, &error));
        scratch_make_folder(bed->folder, "target");
    }
}

static void ceilings_of_files_and_bytes_are_kept(void **state) {
    static const struct item items[] = {PLAIN("a", "12345"), PLAIN("b", "67890")};
    const struct package_import_limits few = {.size_maximum = 100, .file_maximum = 1};
    const struct package_import_limits small = {.size_maximum = 9, .file_maximum = 10};
    struct package_import import = {0};
    write_archive(*state, "ustar", NULL, items, ARRAY_SIZE(items));
    expect_refused(read_archive(*state, &few, &import), "more than the 1 files");
    expect_refused(read_archive(*state, &small, &import), "a model may have");
    write_archive(*state, "zip", NULL, items, ARRAY_SIZE(items));
    expect_refused(read_archive(*state, &small, &import), "a model may have");
}

static void a_cancel_ends_it(void **state) {
    static const struct item items[] = {MODEL};
    const atomic_bool canceled = true;
    const struct package_import_limits limits = {.size_maximum = 100, .file_maximum = 10, .canceled = &canceled};
    struct package_import import = {0};
    write_archive(*state, "ustar", NULL, items, ARRAY_SIZE(items));
    assert_int_equal(read_archive(*state, &limits, &import), -(int)ERROR_UNAVAILABLE);
    error_free(error);
    error = NULL;
}

/* ---- images ---- */

static void write_image(struct bed *bed, const struct package_origin *origin) {
    char layer_digest[DIGEST_HEX_SIZE], tree[DIGEST_HEX_SIZE];
    uint64_t size = 0;
    scratch_write_text(bed->folder, "source/model.onnx", "weights");
    scratch_write_text(bed->folder, "source/sub/tokenizer.json", "{}");
    _cleanup_free_ char *source = scratch_path(bed->folder, "source");
    _cleanup_tar_ struct package_tar *layer = NULL, *archive = NULL;
    _cleanup_image_ struct package_image image = {0};
    expect_success(package_layer_open(source, &layer, &error));
    expect_success(package_layer_digest(source, NULL, layer_digest, &size, tree, &error));
    package_image_describe(tree, layer_digest, size, origin, &image);
    archive = package_image_archive(&image, layer, NULL);
    size_t total = (size_t)package_tar_size(archive), got = 0;
    _cleanup_free_ char *bytes = mem_alloc(total);
    expect_success(package_tar_read(archive, 0, bytes, total, &got, &error));
    scratch_write(bed->folder, "archive", bytes, total);
}

static void an_image_comes_back_with_what_was_said_of_it(void **state) {
    const struct package_origin origin = {.source_uri = "models:/demo@champion",
                                          .resolved_uri = "models:/demo/3",
                                          .recipe_json = "{\"pooling\":\"mean\"}",
                                          .facts_json = "{\"signature\":{}}"};
    _cleanup_import_ struct package_import import = {0};
    struct package_info info = {0};
    struct bed *bed = *state;
    write_image(bed, &origin);
    expect_success(read_archive(bed, &plenty, &import));
    assert_true(import.is_image);
    assert_string_equal(import.source_uri, origin.source_uri);
    assert_string_equal(import.resolved_uri, origin.resolved_uri);
    assert_string_equal(import.recipe_json, origin.recipe_json);
    assert_string_equal(import.facts_json, origin.facts_json);
    expect_success(package_hash_folder(bed->target, &info, &error));
    assert_string_equal(import.tree_digest, info.digest);
}

/* Whatever byte of it is another: it is refused, or (in what nobody digests: times, the padding of the outer tar)
 * the same model comes of it. */
static void no_changed_byte_gives_another_model(void **state) {
    struct bed *bed = *state;
    struct package_info info = {0}, right = {0};
    write_image(bed, NULL);
    _cleanup_free_ char *source = scratch_path(bed->folder, "source");
    expect_success(package_hash_folder(source, &right, &error));
    size_t size = 0;
    _cleanup_free_ char *bytes = scratch_read(bed->folder, "archive", &size);
    for (size_t at = 0; at < size; at += 7) {
        _cleanup_import_ struct package_import import = {0};
        bytes[at] ^= 0x20;
        scratch_write(bed->folder, "archive", bytes, size);
        bytes[at] ^= 0x20;
        if (read_archive(bed, &plenty, &import) >= 0) {
            expect_success(package_hash_folder(bed->target, &info, &error));
            assert_string_equal(info.digest, right.digest);
        }
        error_free(error);
        error = NULL;
        expect_success(package_remove_folder(bed->target, &error));
        scratch_make_folder(bed->folder, "target");
    }
}

/* One that breaks off is no model, wherever. */
static void an_image_that_breaks_off_is_refused(void **state) {
    struct bed *bed = *state;
    write_image(bed, NULL);
    size_t size = 0;
    _cleanup_free_ char *bytes = scratch_read(bed->folder, "archive", &size);
    for (size_t cut = 0; cut + 2 * 1024 <= size;
         cut += 512) { /* the two empty blocks at the end of both tars may lack */
        _cleanup_import_ struct package_import import = {0};
        scratch_write(bed->folder, "archive", bytes, cut);
        if (read_archive(bed, &plenty, &import) != -(int)ERROR_CONFIGURATION)
            fail_msg("taken when cut at %zu of %zu", cut, size);
        error_free(error);
        error = NULL;
        expect_success(package_remove_folder(bed->target, &error));
        scratch_make_folder(bed->folder, "target");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_archive_gives_the_same_tree, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_beside_each_other_keep_their_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_plain_file_is_refused_before_anything_is_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_that_clash_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ceilings_of_files_and_bytes_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancel_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_image_comes_back_with_what_was_said_of_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_changed_byte_gives_another_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_image_that_breaks_off_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
