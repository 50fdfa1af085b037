/* Collections with several processes, kills, failing disks, and followers (rules S1, S2, L1, L2, L12, X8). */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/collection_bed.h"
#include "support/faults.h"
#include "support/scratch.h"

#define PATIENCE_MS 60000

static int set_up(void **state) {
    *state = collection_bed_new(false);
    return 0;
}

static int tear_down(void **state) {
    collection_bed_free(*state);
    return 0;
}

static uint64_t random_below(uint64_t *random, uint64_t below) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (*random >> 33) % below;
}

/* Numbers that processes share. */
static _Atomic uint64_t *share(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static void wait_for(_Atomic uint64_t *number, uint64_t least) {
    uint64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(number) < least) {
        if (clock_monotonic_ms() > deadline) fail_msg("it came to %d only", (int)atomic_load(number));
        usleep(500);
    }
}

static pid_t fork_writer(const char *folder,
                         void (*body)(struct collection *collection, _Atomic uint64_t *shared, int me),
                         _Atomic uint64_t *shared, int me) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) return child;
    struct collection *collection = NULL;
    CHILD_CHECK(collection_open(folder, COLLECTION_APPENDS, &collection, NULL) == 0);
    body(collection, shared, me);
    collection_close(collection);
    _exit(0);
}

static int end_of(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- several processes ---- */

#define WRITERS 3
#define BATCHES 30

static void write_batches(struct collection *collection, _Atomic uint64_t *shared, int me) {
    for (int batch = 0; batch < BATCHES; batch++) {
        struct collection_write writes[3] = {0};
        char ids[3][32];
        size_t count = 1 + (size_t)(batch + me) % 3;
        for (size_t i = 0; i < count; i++) {
            snprintf(ids[i], sizeof ids[i], "%d-%d-%d", me, batch, (int)i);
            writes[i] = (struct collection_write){.id = ids[i], .text = ids[i]};
        }
        uint64_t head;
        CHILD_CHECK(collection_append(collection, writes, count, &head, NULL) == 0);
        CHILD_CHECK(head >= writes[count - 1].seq && writes[count - 1].seq == writes[0].seq + count - 1);
        atomic_fetch_add(&shared[0], count);
    }
}

/* Every row up to the head is there at every moment: none is committed after one with a larger number. */
static uint64_t check_no_gap(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_change *changes;
    size_t count;
    REQUIRE(collection_changes(read, 0, UINT32_MAX, 0, 100000, &changes, &count, &error));
    assert_int_equal(count, collection_head(read));
    for (size_t i = 0; i < count; i++) assert_int_equal(changes[i].row.seq, i + 1);
    assert_int_equal(collection_live(read), count);
    collection_changes_free(changes, count);
    return count;
}

static void L1_commit_order_is_sequence_order_with_several_processes(void **state) {
    struct collection_bed *bed = *state;
    _Atomic uint64_t *shared = share();
    pid_t writers[WRITERS];
    collection_bed_close(bed); /* no connection crosses a fork */
    for (int i = 0; i < WRITERS; i++) writers[i] = fork_writer(bed->folder, write_batches, shared, i);
    collection_bed_open(bed);
    uint64_t wanted = 0, before = 0, deadline = clock_monotonic_ms() + PATIENCE_MS;
    for (int me = 0; me < WRITERS; me++)
        for (int batch = 0; batch < BATCHES; batch++) wanted += 1 + (uint64_t)(batch + me) % 3;
    while (before < wanted && clock_monotonic_ms() < deadline) {
        uint64_t acknowledged = atomic_load(&shared[0]), now = check_no_gap(bed);
        assert_true(now >= before && now >= acknowledged);
        before = now;
        /* the indexer writes to the same file all the while */
        REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, now, &error));
    }
    for (int i = 0; i < WRITERS; i++) assert_int_equal(end_of(writers[i]), 0);
    assert_int_equal(check_no_gap(bed), wanted);
    munmap((void *)shared, 4096);
}

enum { SHARED_ACKNOWLEDGED, SHARED_REFUSED };

static void write_until_refused(struct collection *collection, _Atomic uint64_t *shared, int me) {
    (void)me;
    for (int i = 0;; i++) {
        char id[32];
        snprintf(id, sizeof id, "%d", i);
        struct collection_write write = {.id = id, .text = "text"};
        uint64_t head;
        int result = collection_append(collection, &write, 1, &head, NULL);
        CHILD_CHECK(!result || result == -(int)ERROR_CONFLICT);
        if (result) break;
        atomic_store(&shared[SHARED_ACKNOWLEDGED], head);
    }
    atomic_store(&shared[SHARED_REFUSED], 1);
}

static void X8_no_write_comes_after_the_mark(void **state) {
    struct collection_bed *bed = *state;
    for (uint64_t round = 1; round <= 3; round++) {
        struct collection_bed *one = round == 1 ? bed : collection_bed_new(false);
        _Atomic uint64_t *shared = share();
        collection_bed_close(one);
        pid_t writer = fork_writer(one->folder, write_until_refused, shared, 0);
        collection_bed_open(one);
        wait_for(&shared[SHARED_ACKNOWLEDGED], 7 * round);
        REQUIRE(collection_mark_deleted(one->indexes, &error));
        uint64_t head = bed_head(one);
        wait_for(&shared[SHARED_REFUSED], 1);
        assert_int_equal(end_of(writer), 0);
        assert_int_equal(bed_head(one), head);
        assert_int_equal(atomic_load(&shared[SHARED_ACKNOWLEDGED]), head);
        munmap((void *)shared, 4096);
        if (one != bed) collection_bed_free(one);
    }
}

static void write_for_ever(struct collection *collection, _Atomic uint64_t *shared, int me) {
    for (uint64_t number = 1;; number++) {
        char id[32], text[4000];
        memset(text, 'x', sizeof text);
        snprintf(id, sizeof id, "%d-%d", me, (int)number % 50);
        snprintf(text + sizeof text - 32, 32, "%d", (int)number);
        struct collection_write write = {.id = id, .text = text};
        uint64_t head;
        CHILD_CHECK(collection_append(collection, &write, 1, &head, NULL) == 0);
        atomic_store(&shared[SHARED_ACKNOWLEDGED], write.seq);
    }
}

static void every_acknowledged_write_outlives_the_death_of_the_writer(void **state) {
    struct collection_bed *bed = *state;
    _Atomic uint64_t *shared = share();
    uint64_t random = 42;
    for (int round = 1; round <= 8; round++) {
        uint64_t from = atomic_load(&shared[SHARED_ACKNOWLEDGED]);
        collection_bed_close(bed);
        pid_t writer = fork_writer(bed->folder, write_for_ever, shared, round);
        collection_bed_open(bed);
        wait_for(&shared[SHARED_ACKNOWLEDGED], from + 1 + random_below(&random, 20));
        kill(writer, SIGKILL);
        assert_int_equal(end_of(writer), 128 + SIGKILL);
        uint64_t acknowledged = atomic_load(&shared[SHARED_ACKNOWLEDGED]), head = bed_head(bed);
        assert_true(head == acknowledged || head == acknowledged + 1); /* it could not tell of the last one any more */
        _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
        for (uint64_t seq = from + 1; seq <= head; seq++) {
            _cleanup_collection_row_ struct collection_row row = {0};
            assert_int_equal(collection_find_seq(read, seq, true, &row, NULL), 1);
        }
        /* and what it left half done keeps nobody from writing */
        struct collection_write write = {.id = "after", .text = "it"};
        REQUIRE(collection_append(bed->writes, &write, 1, &head, &error));
        atomic_store(&shared[SHARED_ACKNOWLEDGED], head);
    }
    munmap((void *)shared, 4096);
}

static void S2_the_indexer_alone_moves_the_log_into_the_database(void **state) {
    struct collection_bed *bed = *state;
    _cleanup_free_ char *large = mem_zeroed(1, 6000001), *database = scratch_path(bed->folder, "documents.db");
    memset(large, 'x', 6000000);
    struct stat before, after;
    assert_int_equal(stat(database, &before), 0);
    bed_put(bed, "a", large);
    bed_put(bed, "b", "small");
    assert_int_equal(stat(database, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    bool more;
    REQUIRE(collection_compact(bed->indexes, COLLECTION_DOCUMENTS, 10, &more, &error));
    assert_int_equal(stat(database, &after), 0);
    assert_true(after.st_size > 6000000);
}

/* ---- followers ---- */

#define IDS 12
#define FOLLOWERS 4

/* An index, as far as the log is concerned: the rows that it has, and those that it would have after a crash. */
struct follower {
    char index_id[24];
    uint64_t at, durable;
    uint64_t from; /* the head when it was added: before that it passes what was compacted already, and shows nobody */
    uint64_t rows[IDS], kept[IDS]; /* by id: the number of the row that it shows, or 0 */
};

static size_t id_number(const char *id) {
    return (size_t)strtoull(id, NULL, 10);
}

static void take_change(struct follower *follower, const struct collection_change *change) {
    uint64_t *row = &follower->rows[id_number(change->row.id)];
    if (*row == change->row.previous) *row = 0; /* by `previous` alone, as an index does it: it knows no ids */
    assert_true(!*row || change->superseded); /* else two rows of one document would be seen */
    if (change->row.text && !change->superseded) *row = change->row.seq;
}

/* Goes on by at most `limit` rows. */
static void follow(struct collection_bed *bed, struct follower *follower, size_t limit) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    uint64_t head = collection_head(read), through = head - follower->at > limit ? follower->at + limit : head;
    struct collection_change *changes;
    size_t count;
    REQUIRE(collection_changes(read, follower->at, through, through, SIZE_MAX >> 1, &changes, &count, &error));
    for (size_t i = 0; i < count; i++) take_change(follower, &changes[i]);
    collection_changes_free(changes, count);
    follower->at = through;
}

static void check_follower(const struct follower *follower, const uint64_t *history, size_t step) {
    if (follower->at < follower->from) return;
    if (memcmp(follower->rows, history + follower->at * IDS, sizeof follower->rows))
        fail_msg("%s shows other documents at %d than were there (step %d)", follower->index_id, (int)follower->at,
                 (int)step);
}

static void sync_follower(struct collection_bed *bed, struct follower *follower) {
    memcpy(follower->kept, follower->rows, sizeof follower->kept);
    follower->durable = follower->at;
    REQUIRE(collection_record_durable(bed->indexes, follower->index_id, follower->at, &error));
}

static void crash_follower(struct follower *follower) {
    memcpy(follower->rows, follower->kept, sizeof follower->rows);
    follower->at = follower->durable;
}

static void begin_follower(struct collection_bed *bed, struct follower *follower, int number) {
    *follower = (struct follower){0};
    snprintf(follower->index_id, sizeof follower->index_id, "index-%d", number);
    bed_add_index(bed, follower->index_id, follower->index_id);
    follower->from = bed_head(bed);
}

static void replace_follower(struct collection_bed *bed, struct follower *follower, int number) {
    bool dropped;
    REQUIRE(collection_set_index_state(bed->indexes, follower->index_id, "failed", "let go", NULL, &error));
    REQUIRE(collection_drop_index(bed->indexes, follower->index_id, "failed", 0, &dropped, &error));
    assert_true(dropped);
    begin_follower(bed, follower, number);
}

/* A write, and what is there after it: history[head * IDS] on. */
static void write_something(struct collection_bed *bed, uint64_t *history, uint64_t *head, uint64_t *random) {
    uint64_t number = random_below(random, IDS);
    char id[16];
    snprintf(id, sizeof id, "%d", (int)number);
    uint64_t seq = random_below(random, 3) ? bed_put(bed, id, "text") : bed_delete(bed, id);
    if (!seq) return;
    uint64_t *before = history + *head * IDS, *now = history + ++*head * IDS;
    memcpy(now, before, IDS * sizeof *now);
    assert_int_equal(seq, *head);
    now[number] = seq;
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    _cleanup_collection_row_ struct collection_row row = {0};
    REQUIRE(collection_find_seq(read, seq, true, &row, &error));
    if (!row.text) now[number] = 0;
}

/* Whatever an index has shown or may go back to is in the log: each row that it has at its durable number or above. */
static void check_rows_are_kept(struct collection_bed *bed, const struct follower *follower) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    for (size_t i = 0; i < IDS; i++) {
        _cleanup_collection_row_ struct collection_row row = {0}, kept = {0};
        if (follower->rows[i]) assert_int_equal(collection_find_seq(read, follower->rows[i], true, &row, NULL), 1);
        if (follower->kept[i]) assert_int_equal(collection_find_seq(read, follower->kept[i], true, &kept, NULL), 1);
    }
}

static void L2_L12_followers_show_what_was_there_whatever_is_compacted(void **state) {
    struct collection_bed *bed = *state;
    enum { STEPS = 1500 };
    uint64_t *history = mem_new_array((STEPS + 1) * IDS, uint64_t), head = 0, random = 20261121;
    struct follower followers[FOLLOWERS];
    int made = 0;
    for (; made < FOLLOWERS; made++) begin_follower(bed, &followers[made], made);
    size_t compactions = 0;
    for (size_t step = 0; step < STEPS; step++) {
        struct follower *follower = &followers[random_below(&random, FOLLOWERS)];
        bool more;
        switch (random_below(&random, 12)) {
        case 0: sync_follower(bed, follower); break;
        case 1: crash_follower(follower); break;
        case 2:
        case 3:
            REQUIRE(
                collection_compact(bed->indexes, COLLECTION_DOCUMENTS, 1 + random_below(&random, 8), &more, &error));
            compactions++;
            break;
        case 4:
        case 5: follow(bed, follower, 1 + random_below(&random, 40)); break;
        case 6:
            if (!random_below(&random, 20)) replace_follower(bed, follower, made++);
            break;
        case 7: /* the blue one: all others alone would hold nothing back */
            REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, head, &error));
            break;
        default: write_something(bed, history, &head, &random); break;
        }
        check_follower(follower, history, step);
        check_rows_are_kept(bed, follower);
    }
    for (size_t i = 0; i < FOLLOWERS; i++) {
        follow(bed, &followers[i], SIZE_MAX >> 1);
        check_follower(&followers[i], history, STEPS);
        sync_follower(bed, &followers[i]);
    }
    /* In the end nothing is left but what lives. */
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, head, &error));
    bool more = true;
    while (more) REQUIRE(collection_compact(bed->indexes, COLLECTION_DOCUMENTS, 64, &more, &error));
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    uint64_t rows, embeds;
    REQUIRE(collection_count_changes(read, 0, &rows, &embeds, &error));
    assert_int_equal(rows, collection_live(read));
    assert_int_equal(embeds, rows);
    assert_true(head > 300 && compactions > 100);
    free(history);
}

/* ---- a failing disk ---- */

enum { NOTE_ACKNOWLEDGED, NOTE_TRIED };

static bool is_acknowledged(struct faults *faults, struct collection *collection, int number) {
    char id[16];
    snprintf(id, sizeof id, "%d", number);
    struct collection_write write = {.id = id, .text = "text"};
    uint64_t head;
    struct error *error = NULL;
    atomic_store(&faults->note[NOTE_TRIED], number);
    int result = collection_append(collection, &write, 1, &head, &error);
    if (!result) atomic_store(&faults->note[NOTE_ACKNOWLEDGED], number);
    CHILD_CHECK(result == 0 || (result == -(int)ERROR_UNAVAILABLE && write.seq == 0));
    if (result < 0) CHILD_CHECK(error->transient != collection_is_broken(collection));
    error_free(error);
    return !result;
}

/* Writes and what the indexer does; tries each again after a failure, as the roles do, unless it is broken. */
static void persist(struct faults *faults, void *folder) {
    struct collection *writes = NULL, *indexes = NULL;
    for (int tries = 0; tries < 3 && !indexes; tries++) collection_open(folder, COLLECTION_INDEXES, &indexes, NULL);
    for (int tries = 0; tries < 3 && !writes; tries++) collection_open(folder, COLLECTION_APPENDS, &writes, NULL);
    CHILD_CHECK(writes && indexes);
    for (int number = 1; number <= 4; number++) {
        bool done = is_acknowledged(faults, writes, number);
        if (!done && !collection_is_broken(writes)) done = is_acknowledged(faults, writes, number);
        if (!done) {
            CHILD_CHECK(collection_is_broken(writes));
            _exit(0);
        }
        bool more;
        collection_record_durable(indexes, BED_BLUE, (uint64_t)number, NULL);
        collection_compact(indexes, COLLECTION_DOCUMENTS, 10, &more, NULL);
    }
    collection_close(writes);
    collection_close(indexes);
}

static void check_after_faults(const char *folder, int acknowledged, int tried) {
    struct collection_bed bed = {.folder = (char *)folder};
    collection_bed_open(&bed);
    int head = (int)bed_head(&bed);
    assert_in_range(head, acknowledged, tried > acknowledged ? tried : acknowledged);
    assert_int_equal(check_no_gap(&bed), head);
    collection_bed_close(&bed);
}

static void each_call_failing_in_turn_loses_nothing(void **state) {
    (void)state;
    static const int actions[] = {ENOSPC, EIO, FAULT_KILL};
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        struct faults *faults = faults_new(FAULT_WRITE | FAULT_SYNC | FAULT_NAME);
        faults->action = actions[i];
        bool fired = true;
        for (faults->at = 1; fired; faults->at++) {
            assert_in_range(faults->at, 1, 500);
            char *root = scratch_new();
            _cleanup_free_ char *folder = scratch_path(root, BED_COLLECTION);
            REQUIRE(collection_bed_create(root, false, &error));
            atomic_store(&faults->note[NOTE_ACKNOWLEDGED], 0);
            atomic_store(&faults->note[NOTE_TRIED], 0);
            int status = faults_run(faults, persist, folder);
            fired = atomic_load(&faults->fired);
            assert_int_equal(status, fired && actions[i] == FAULT_KILL ? 128 + SIGKILL : 0);
            check_after_faults(folder, atomic_load(&faults->note[NOTE_ACKNOWLEDGED]),
                               atomic_load(&faults->note[NOTE_TRIED]));
            scratch_free(root);
        }
        assert_true(faults->at > 15);
        faults_free(faults);
    }
}

static void fail_a_sync(struct faults *faults, void *folder) {
    struct collection *collection = NULL;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(collection_open(folder, COLLECTION_APPENDS, &collection, NULL) == 0);
    CHILD_CHECK(is_acknowledged(faults, collection, 1) && !collection_is_broken(collection));
    atomic_store(&faults->armed, true);
    CHILD_CHECK(!is_acknowledged(faults, collection, 2));
    CHILD_CHECK(collection_is_broken(collection)); /* the disk is well again, and still nothing is tried */
    unsigned seen = atomic_load(&faults->seen);
    CHILD_CHECK(!is_acknowledged(faults, collection, 3));
    struct collection_read *read = NULL;
    struct error *error = NULL;
    CHILD_CHECK(collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, &error) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(!error->transient && strstr(error->message, "restart"));
    error_free(error);
    collection_close(collection);
    CHILD_CHECK(atomic_load(&faults->seen) == seen);
}

static void S1_a_failed_sync_breaks_the_collection_for_good(void **state) {
    struct collection_bed *bed = *state;
    collection_bed_close(bed);
    struct faults *faults = faults_new(FAULT_SYNC);
    faults->at = 1;
    faults->action = EIO;
    assert_int_equal(faults_run(faults, fail_a_sync, bed->folder), 0);
    assert_true(atomic_load(&faults->fired));
    check_after_faults(bed->folder, 1, 2);
    faults_free(faults);
}

static void create(struct faults *faults, void *root) {
    struct error *error = NULL;
    int result = collection_bed_create(root, true, &error);
    atomic_store(&faults->note[NOTE_ACKNOWLEDGED], !result);
    if (result < 0 && atomic_load(&faults->fired)) CHILD_CHECK(error->message[0]);
    error_free(error);
}

static void a_creation_that_fails_or_dies_at_any_call_can_be_tried_again(void **state) {
    (void)state;
    static const int actions[] = {ENOSPC, FAULT_KILL};
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        struct faults *faults = faults_new(FAULT_ALL);
        bool fired = true;
        faults->action = actions[i];
        for (faults->at = 1; fired; faults->at++) {
            assert_in_range(faults->at, 1, 500);
            char *root = scratch_new();
            _cleanup_free_ char *folder = scratch_path(root, BED_COLLECTION);
            atomic_store(&faults->note[NOTE_ACKNOWLEDGED], 0);
            faults_run(faults, create, root);
            fired = atomic_load(&faults->fired);
            if (atomic_load(&faults->note[NOTE_ACKNOWLEDGED])) assert_true(scratch_exists(root, BED_COLLECTION));
            if (actions[i] == ENOSPC) assert_in_range(scratch_count(root, "."), 0, 1);
            REQUIRE(collection_bed_create(root, true, &error));
            assert_int_equal(scratch_count(root, "."), 1);
            check_after_faults(folder, 0, 0);
            scratch_free(root);
        }
        assert_true(faults->at > 30);
        faults_free(faults);
    }
}

int main(void) {
    if (!access("/dev/shm", W_OK)) setenv("TMPDIR", "/dev/shm", 0); /* hundreds of databases are made and synced */
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(L1_commit_order_is_sequence_order_with_several_processes),
        TEST(X8_no_write_comes_after_the_mark),
        TEST(every_acknowledged_write_outlives_the_death_of_the_writer),
        TEST(S2_the_indexer_alone_moves_the_log_into_the_database),
        TEST(L2_L12_followers_show_what_was_there_whatever_is_compacted),
        cmocka_unit_test(each_call_failing_in_turn_loses_nothing),
        TEST(S1_a_failed_sync_breaks_the_collection_for_good),
        cmocka_unit_test(a_creation_that_fails_or_dies_at_any_call_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
