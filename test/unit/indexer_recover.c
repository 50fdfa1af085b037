/* What an index may be after a crash, a power cut, a backup, a bad disk: it goes back, or is set aside and built again
 * from its log; what is wrong is never searched (L6, L7). */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "collection/collection-internal.h"
#include "support/indexer_bed.h"
#include "support/scratch.h"
#include "vector/vector-internal.h"

#define DOCUMENTS 40

static int open_bed(void **state) {
    *state = indexer_bed_new(false);
    return 0;
}

static int close_bed(void **state) {
    indexer_bed_free(*state);
    return 0;
}

static struct indexer_bed *start(void **state) {
    struct indexer_bed *bed = *state;
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "d", DOCUMENTS, "a text");
    indexer_bed_wait_indexed(bed, DOCUMENTS);
    return bed;
}

/* Stopped in order, with everything durable. */
static struct indexer_bed *start_and_stop(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_stop(bed);
    assert_int_equal(indexer_bed_durable(bed, BED_BLUE), DOCUMENTS);
    return bed;
}

/* It is built again from the log, and nobody finds anything in it before. */
static void assert_set_aside(struct indexer_bed *bed, const char *why) {
    size_t embedded = bed->replicas[0].text_count;
    bed->replicas[0].does = BATCH_HOLDS;
    indexer_bed_start(bed);
    indexer_bed_until(bed, bed->replicas[0].held_count);
    assert_true(indexer_bed_has_event(bed, "set aside"));
    if (!indexer_bed_has_event(bed, why)) fail_msg("no event says: %s", why);
    assert_false(indexer_bed_answers(bed, BED_BLUE));
    bed->replicas[0].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[0]);
    indexer_bed_check_whole(bed, BED_BLUE);
    assert_true(bed->replicas[0].text_count >= embedded + DOCUMENTS);
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "after", "goes on"));
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void overwrite(struct indexer_bed *bed, const char *name, long at, const void *bytes, size_t size) {
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE), *path = scratch_path(folder, name);
    _cleanup_close_ int file = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, size, (off_t)at), size);
}

static void run_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run_shell(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *command = text_format_list(format, arguments);
    va_end(arguments);
    assert_int_equal(system(command), 0);
}

static void L7_files_that_are_gone_are_built_again(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE);
    assert_int_equal(fs_remove_tree(folder, NULL), 0);
    assert_set_aside(bed, "its files are gone");
}

static void L7_a_flipped_bit_is_found(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE);
    run_shell("cd '%s' && f=$(ls *.rows | head -1) && printf '\\377\\377\\377' | dd of=$f bs=1 seek=300 conv=notrunc "
              "status=none",
              folder);
    assert_set_aside(bed, "set aside");
}

static void L7_an_index_that_is_older_than_what_was_recorded_is_not_used(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE);
    run_shell("cp -a '%s' '%s/copy'", folder, bed->folder);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "e", 20, "more");
    indexer_bed_wait_indexed(bed, DOCUMENTS + 20);
    indexer_bed_stop(bed);
    run_shell("rm -r '%s' && mv '%s/copy' '%s'", folder, bed->folder, folder);
    assert_set_aside(bed, "older copy");
}

static void L7_a_log_that_ends_before_the_index_does_is_a_backup(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *database = text_format("%s/collections/" BED_COLLECTION, bed->folder);
    indexer_bed_close_writes(bed);
    run_shell("cd '%s' && cp documents.db* '%s/'", database, bed->folder);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "e", 20, "more");
    indexer_bed_wait_indexed(bed, DOCUMENTS + 20);
    indexer_bed_stop(bed);
    indexer_bed_close_writes(bed);
    run_shell("cd '%s' && rm documents.db* && mv '%s'/documents.db* .", database, bed->folder);
    assert_set_aside(bed, "the log ends at 40");
}

static void L7_another_log_is_another_index(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *database = text_format("%s/collections/" BED_COLLECTION "/documents.db", bed->folder);
    const struct store_options options = {.schema = &collection_schema, .role = STORE_OWNER};
    struct store *store = NULL;
    struct store_transaction *transaction = NULL;
    indexer_bed_close_writes(bed);
    assert_int_equal(store_open_as(database, &options, &store, NULL), 0);
    assert_int_equal(store_begin(store, &transaction, NULL), 0);
    assert_int_equal(store_run(transaction, NULL, NULL, "UPDATE meta SET log_id = ?", "t", "restored"), 0);
    assert_int_equal(store_commit(transaction, NULL), 0);
    store_close(store);
    assert_set_aside(bed, "log");
}

static struct vector_writer *open_writer(struct indexer_bed *bed, struct vector_state *ret_state) {
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE), *log_id = indexer_bed_log_id(bed);
    const struct vector_spec spec = {
        .index_id = BED_BLUE, .log_id = log_id, .encoder_digest = BED_DIGEST, .dimension = BED_DIMENSION};
    struct vector_writer *writer = NULL;
    assert_int_equal(folder_vectors.open_writer(folder, &spec, DOCUMENTS, &writer, ret_state, NULL), 0);
    return writer;
}

static void L6_an_index_that_lacks_a_document_is_built_again(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    struct vector_state found;
    struct vector_writer *writer = open_writer(bed, &found);
    assert_true(folder_vectors.kill(writer, 7, DOCUMENTS));
    folder_vectors.publish(writer, DOCUMENTS, DOCUMENTS);
    folder_vectors.close_writer(writer);
    assert_set_aside(bed, "1 of 40 documents");
}

static void L6_a_row_of_no_document_is_taken_out(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    struct vector_state found;
    indexer_bed_delete(bed, "d3");
    struct vector_writer *writer = open_writer(bed, &found);
    folder_vectors.publish(writer, DOCUMENTS + 1, DOCUMENTS + 1); /* says that it has the delete, and has it not */
    folder_vectors.close_writer(writer);
    indexer_bed_start(bed);
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "after", "goes on"));
    indexer_bed_check_whole(bed, BED_BLUE);
    assert_false(indexer_bed_has_event(bed, "set aside"));
}

static void L6_after_a_power_cut_nothing_is_answered_before_the_head_that_was_found(void **state) {
    struct indexer_bed *bed = start(state);
    static const uint64_t boot[2] = {1, 2};
    indexer_bed_until(bed, indexer_bed_durable(bed, BED_BLUE) == DOCUMENTS);
    indexer_bed_put_many(bed, "e", 20, "shown, and not synced yet");
    indexer_bed_wait_indexed(bed, DOCUMENTS + 20);
    indexer_bed_kill(bed);
    uint64_t durable = indexer_bed_durable(bed, BED_BLUE);
    overwrite(bed, "header", offsetof(struct vector_header, boot_id), boot, sizeof boot);
    bed->replicas[0].does = BATCH_HOLDS;
    indexer_bed_put(bed, "last", "written before it was started again");
    indexer_bed_start(bed);
    indexer_bed_until(bed, bed->replicas[0].held_count);
    assert_true(indexer_bed_applied(bed, BED_BLUE) <= durable);
    assert_false(indexer_bed_answers(bed, BED_BLUE));
    bed->replicas[0].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[0]);
    indexer_bed_check_whole(bed, BED_BLUE);
    assert_false(indexer_bed_has_event(bed, "set aside"));
}

static void a_kill_while_an_index_is_built_again_is_gone_on_from(void **state) {
    struct indexer_bed *bed = start_and_stop(state);
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE);
    assert_int_equal(fs_remove_tree(folder, NULL), 0);
    indexer_bed_arm(bed, "index_set_aside");
    indexer_bed_start(bed);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_kill(bed);
    bed->replicas[0].does = BATCH_HOLDS;
    indexer_bed_start(bed);
    indexer_bed_until(bed, bed->replicas[0].held_count);
    assert_false(indexer_bed_answers(bed, BED_BLUE));
    bed->replicas[0].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[0]);
    indexer_bed_check_whole(bed, BED_BLUE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(L7_files_that_are_gone_are_built_again, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L7_a_flipped_bit_is_found, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L7_an_index_that_is_older_than_what_was_recorded_is_not_used, open_bed,
                                        close_bed),
        cmocka_unit_test_setup_teardown(L7_a_log_that_ends_before_the_index_does_is_a_backup, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L7_another_log_is_another_index, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L6_an_index_that_lacks_a_document_is_built_again, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L6_a_row_of_no_document_is_taken_out, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(L6_after_a_power_cut_nothing_is_answered_before_the_head_that_was_found,
                                        open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_kill_while_an_index_is_built_again_is_gone_on_from, open_bed, close_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
