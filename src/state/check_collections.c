/* Collections: databases, folders against rows, indexes against their logs. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/check-internal.h"
#include "vector/vector.h"

#define RESTORE_ADVICE "stop the service, and restore a backup (`slipway restore`)"

/* ---- databases ---- */

struct listening {
    struct checking *checking;
    const char *subject, *file;
    bool is_damaged;
};

static void tell(void *context, const char *fault) {
    struct listening *listening = context;
    listening->is_damaged = true;
    check_find(listening->checking, STATE_FAULT, listening->subject, RESTORE_ADVICE, "%s: %s", listening->file, fault);
}

static void say_unreadable(struct checking *checking, const char *subject, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    check_find(checking, STATE_FAULT, subject, RESTORE_ADVICE, "%s", text);
}

/* False: it is so damaged that nothing more can be asked of it. */
static bool verify_database(struct checking *checking, const char *subject, struct collection_read *read,
                            enum collection_set set) {
    _cleanup_error_ struct error *error = NULL;
    struct listening listening = {.checking = checking, .subject = subject, .file = collection_file_name(set)};
    checking->report->databases++;
    if (collection_verify(read, tell, &listening, &error) >= 0) return !listening.is_damaged;
    say_unreadable(checking, subject, error);
    return false;
}

/* ---- indexes ---- */

static bool is_followed(const struct collection_index *index) {
    return strcmp(index->state, "failed") != 0 && strcmp(index->state, "deleting") != 0;
}

static void add_index(struct checking *checking, const struct state_collection *entry,
                      const struct collection_index *index, const struct collection_facts *facts) {
    checking->indexes = mem_resize(checking->indexes, checking->index_count + 1, sizeof *checking->indexes);
    checking->indexes[checking->index_count++] = (struct index_look){
        .subject = text_format("index %s of collection %s", index->index_id, entry->name),
        .folder = text_format("%s/collections/%s/indexes/%s", checking->state, entry->id, index->index_id),
        .index_id = text_copy(index->index_id),
        .log_id = text_copy(facts->log_id),
        .encoder_digest = text_copy(index->encoder_digest),
        .durable = index->durable_seq,
        .dimension = (uint32_t)index->dimension,
        .quantized = facts->quantized,
    };
}

static int check_pin(struct checking *checking, const struct state_collection *entry,
                     const struct collection_index *index, const char *subject, struct error **ret_error) {
    _cleanup_free_ char *holder = text_format("collection:%s/%s", entry->id, index->index_id);
    int64_t pins = 0;
    if (index->set != COLLECTION_DOCUMENTS) return 0;
    int result = check_ask_number(checking, &pins, ret_error, "SELECT count(*) FROM pins WHERE holder = ?", holder);
    if (!result && !pins)
        check_find_mended(checking, subject, "adds it", "the pin is missing that keeps its encoder, deployment %s",
                          index->deployment_id);
    return result;
}

struct folder_names {
    struct checking *checking;
    const struct state_collection *entry;
    const struct collection_index *indexes;
    size_t count;
};

static void take_index_folder(void *context, const char *name) {
    const struct folder_names *names = context;
    size_t size = strcspn(name, ".");
    for (size_t i = 0; i < names->count; i++)
        if (strlen(names->indexes[i].index_id) == size && !strncmp(names->indexes[i].index_id, name, size)) {
            if (!strstr(name, ".broken-")) return;
            _cleanup_free_ char *kept = text_format("folder %s of collection %s", name, names->entry->name);
            check_find(names->checking, STATE_NOTE, kept, "remove it when nobody wants to look into it",
                       "an index that was damaged was set aside, and has been built again");
            return;
        }
    _cleanup_free_ char *subject = text_format("folder %s of collection %s", name, names->entry->name);
    check_find(names->checking, STATE_NOTE, subject, "the next start of the service removes it",
               "it is of no index on the collection's list");
}

static int check_index_list(struct checking *checking, const struct state_collection *entry,
                            const struct collection_facts *facts, const struct collection_facts *query_facts,
                            struct error **ret_error) {
    struct collection_index *indexes = NULL;
    size_t count = 0;
    _cleanup_free_ char *folder = text_format("%s/collections/%s/indexes", checking->state, entry->id);
    int result = collection_list_indexes(entry->reads[COLLECTION_DOCUMENTS], &indexes, &count, ret_error);
    for (size_t i = 0; i < count && !result; i++) {
        bool is_queries = indexes[i].set == COLLECTION_QUERIES;
        _cleanup_free_ char *subject = text_format("index %s of collection %s", indexes[i].index_id, entry->name);
        result = check_pin(checking, entry, &indexes[i], subject, ret_error);
        if (!result && is_followed(&indexes[i]))
            add_index(checking, entry, &indexes[i], is_queries ? query_facts : facts);
    }
    struct folder_names names = {checking, entry, indexes, count};
    if (!result) check_each_name(folder, take_index_folder, &names);
    collection_indexes_free(indexes, count);
    return result;
}

/* ---- one collection ---- */

static void check_facts(struct checking *checking, const struct state_collection *entry, const char *subject,
                        const struct collection_facts *facts) {
    if (!text_equal(facts->collection_id, entry->id) || !text_equal(facts->name, entry->name))
        check_find(checking, STATE_FAULT, subject, RESTORE_ADVICE, "its database is that of the collection %s (%s)",
                   facts->name, facts->collection_id);
}

static int check_contents(struct checking *checking, const struct state_collection *entry, const char *subject,
                          struct error **ret_error) {
    struct collection_facts facts = {0}, query_facts = {0};
    struct collection_read *queries = entry->reads[COLLECTION_QUERIES];
    int result = collection_load_facts(entry->reads[COLLECTION_DOCUMENTS], &facts, ret_error);
    if (!result && queries) result = collection_load_facts(queries, &query_facts, ret_error);
    if (!result) check_facts(checking, entry, subject, &facts);
    if (!result && !facts.deleted) result = check_index_list(checking, entry, &facts, &query_facts, ret_error);
    collection_facts_clear(&facts);
    collection_facts_clear(&query_facts);
    return result;
}

static void check_collection(struct checking *checking, const struct state_collection *entry) {
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *subject = text_format("collection %s", entry->name);
    bool has_gone = entry->error && entry->error->class == ERROR_NOT_FOUND && strcmp(entry->state, "active") != 0;
    if (has_gone) return;
    if (entry->error) {
        say_unreadable(checking, subject, entry->error);
        return;
    }
    bool is_sound = true;
    for (int set = 0; set < 2; set++)
        if (entry->reads[set]) is_sound = verify_database(checking, subject, entry->reads[set], set) && is_sound;
    if (is_sound && check_contents(checking, entry, subject, &error) < 0) say_unreadable(checking, subject, error);
}

static void take_folder(void *context, const char *name) {
    struct checking *checking = context;
    for (size_t i = 0; i < checking->cut->count; i++)
        if (!strcmp(checking->cut->collections[i].id, name)) return;
    bool is_ours = text_is_uuid(name) || text_starts_with(name, ".new-") || text_starts_with(name, ".gone-");
    _cleanup_free_ char *subject = text_format("folder collections/%s", name);
    check_find(checking, STATE_NOTE, subject,
               is_ours ? "the next start of the service removes it" : "remove it if nobody knows what it is",
               "it belongs to no collection");
}

int check_collections(struct checking *checking, struct error **ret_error) {
    (void)ret_error;
    _cleanup_free_ char *root = fs_join(checking->state, "collections");
    for (size_t i = 0; i < checking->cut->count; i++) check_collection(checking, &checking->cut->collections[i]);
    check_each_name(root, take_folder, checking);
    return 0;
}

/* ---- the folders of indexes ---- */

void check_indexes(struct checking *checking) {
    for (size_t i = 0; i < checking->index_count; i++) {
        const struct index_look *look = &checking->indexes[i];
        const struct vector_spec spec = {.index_id = look->index_id,
                                         .log_id = look->log_id,
                                         .encoder_digest = look->encoder_digest,
                                         .dimension = look->dimension,
                                         .quantized = look->quantized};
        _cleanup_error_ struct error *error = NULL;
        if (!fs_exists(look->folder)) {
            if (look->durable)
                check_find_mended(checking, look->subject, "builds it again from the log", "its folder is not there");
            continue;
        }
        checking->report->indexes++;
        int result = folder_vectors.verify(look->folder, &spec, look->durable, &error);
        if (!result || !fs_exists(look->folder)) continue;
        _cleanup_free_ char *text = error_text(error);
        if (result == -(int)ERROR_CONFLICT)
            check_find_mended(checking, look->subject, "sets it aside and builds it again from the log", "%s", text);
        else
            check_find(checking, STATE_FAULT, look->subject, "look at the disk, and at the rights of the folder", "%s",
                       text);
    }
}
