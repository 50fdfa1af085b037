#include "collection_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "scratch.h"

void bed_require(int result, struct error *error, const char *what) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    fail_msg("%s: %s", what, text);
}

void bed_refused(int result, struct error *error, enum error_class class, const char *part, const char *what) {
    _cleanup_free_ char *text = result < 0 ? error_text(error) : text_copy("success");
    if (result != -(int)class || !strstr(text, part)) fail_msg("%s: %d: %s", what, result, text);
    error_free(error);
}

int collection_bed_create(const char *root, bool keep_queries, struct error **ret_error) {
    const struct collection_spec spec = {
        .collection_id = BED_COLLECTION,
        .name = "things",
        .metric = "cosine",
        .keep_queries = keep_queries,
        .index_id = BED_BLUE,
        .query_index_id = keep_queries ? BED_BLUE_QUERIES : NULL,
        .deployment_id = "deployment-1",
        .encoder_digest = "digest-1",
        .revision = 1,
        .dimension = 4,
    };
    return collection_create(root, &spec, ret_error);
}

void collection_bed_open(struct collection_bed *bed) {
    REQUIRE(collection_open(bed->folder, COLLECTION_INDEXES, &bed->indexes, &error));
    REQUIRE(collection_open(bed->folder, COLLECTION_APPENDS, &bed->writes, &error));
}

void collection_bed_close(struct collection_bed *bed) {
    collection_close(TAKE(bed->writes));
    collection_close(TAKE(bed->indexes));
}

struct collection_bed *collection_bed_new(bool keep_queries) {
    struct collection_bed *bed = mem_new(struct collection_bed);
    bed->root = scratch_new();
    bed->folder = scratch_path(bed->root, BED_COLLECTION);
    REQUIRE(collection_bed_create(bed->root, keep_queries, &error));
    collection_bed_open(bed);
    return bed;
}

void collection_bed_free(struct collection_bed *bed) {
    collection_bed_close(bed);
    scratch_free(bed->root);
    free(bed->folder);
    free(bed);
}

static uint64_t append(struct collection_bed *bed, const char *id, const char *text) {
    struct collection_write write = {.id = id, .text = text};
    uint64_t head;
    REQUIRE(collection_append(bed->writes, &write, 1, &head, &error));
    return write.seq;
}

uint64_t bed_put(struct collection_bed *bed, const char *id, const char *text) {
    return append(bed, id, text);
}

uint64_t bed_delete(struct collection_bed *bed, const char *id) {
    return append(bed, id, NULL);
}

struct collection_read *bed_read(struct collection_bed *bed, enum collection_set set) {
    struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(bed->indexes, set, &read, &error));
    return read;
}

uint64_t bed_head(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    return collection_head(read);
}

void bed_add_index(struct collection_bed *bed, const char *index_id, const char *digest) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_facts facts;
    REQUIRE(collection_load_facts(read, &facts, &error));
    _cleanup_free_ char *queries = text_format("%s-queries", index_id), *added = NULL;
    const struct collection_index index = {.index_id = (char *)index_id,
                                           .deployment_id = (char *)"deployment-2",
                                           .encoder_digest = (char *)digest,
                                           .task_id = (char *)"task-1",
                                           .revision = 2,
                                           .dimension = 8};
    REQUIRE(collection_add_index(bed->indexes, &index, facts.keep_queries ? queries : NULL, &added, &error));
    assert_string_equal(added, index_id);
    collection_facts_clear(&facts);
}

void bed_make_ready(struct collection_bed *bed, const char *index_id, uint64_t durable_seq) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REQUIRE(collection_load_index(read, index_id, &index, &error));
    if (durable_seq) REQUIRE(collection_record_durable(bed->indexes, index_id, durable_seq, &error));
    REQUIRE(collection_set_index_state(bed->indexes, index_id, "ready", NULL, NULL, &error));
    if (index.partner_id)
        REQUIRE(collection_set_index_state(bed->indexes, index.partner_id, "ready", NULL, NULL, &error));
    collection_index_clear(&index);
}

char *bed_state(struct collection_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REQUIRE(collection_load_index(read, index_id, &index, &error));
    char *state = text_copy(index.state);
    collection_index_clear(&index);
    return state;
}
