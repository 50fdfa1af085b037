#include "support/document_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/collection_bed.h"

/* ---- the bed ------------------------------------------------------------------- */

static void make_collection(struct document_bed *bed) {
    const struct collection_spec spec = {.collection_id = BED_COLLECTION_ID,
                                         .name = "c",
                                         .metric = "cosine",
                                         .keep_queries = bed->keep_queries,
                                         .quantized = bed->quantized,
                                         .index_id = BED_BLUE_ID,
                                         .query_index_id = bed->keep_queries ? BED_QUERIES_ID : NULL,
                                         .deployment_id = "d",
                                         .encoder_digest = BED_DIGEST,
                                         .revision = 3,
                                         .dimension = BED_DIMENSION};
    bed->root = fs_join(bed->bed.folder, "collections");
    bed->folder = fs_join(bed->root, BED_COLLECTION_ID);
    REQUIRE(fs_make_folders(bed->root, &error));
    REQUIRE(collection_create(bed->root, &spec, &error));
    REQUIRE(collection_open(bed->folder, COLLECTION_INDEXES, &bed->log, &error));
    gateway_bed_sql(&bed->bed, "INSERT INTO collections (id, name, state, metric, keep_queries, quantized, created_at) "
                               "VALUES ('" BED_COLLECTION_ID "', 'c', 'active', 'cosine', 0, 0, 1)");
}

void document_bed_open(struct document_bed *bed, bool keep_queries, bool quantized) {
    *bed = (struct document_bed){.keep_queries = keep_queries,
                                 .quantized = quantized,
                                 .blue = {BED_BLUE_ID, BED_DIGEST, COLLECTION_DOCUMENTS, NULL, 0},
                                 .queries = {BED_QUERIES_ID, BED_DIGEST, COLLECTION_QUERIES, NULL, 0},
                                 .green = {BED_GREEN_ID, BED_GREEN_DIGEST, COLLECTION_DOCUMENTS, NULL, 0}};
    gateway_bed_open(&bed->bed);
    gateway_bed_make_database(&bed->bed);
    make_collection(bed);
    document_bed_make_index(bed, &bed->blue);
    if (keep_queries) document_bed_make_index(bed, &bed->queries);
    gateway_bed_route(&bed->bed, "d", "enc", 3, "a,b", false);
}

static void say_up(struct document_bed *bed, struct fake_encoder *encoder, const char *id, const char *digest) {
    char name[64];
    snprintf(name, sizeof name, "%s.1", id);
    const char *path = gateway_bed_socket(&bed->bed, name);
    fake_encoder_open(encoder, &bed->bed.loop, path, digest, BED_DIMENSION);
    wire_say(bed->bed.supervisor.channel, replica_up, .replica_id = id, .incarnation = 1, .address = path, .pid = 1);
}

static const struct gateway_route *route(const struct document_bed *bed) {
    return gateway_snapshot_find(bed->bed.gateway->routes.current, "enc", 3);
}

void document_bed_start(struct document_bed *bed) {
    gateway_bed_start(&bed->bed);
    say_up(bed, &bed->a, "a", BED_DIGEST);
    until(&bed->bed, gateway_route_is_up(route(bed)));
}

void document_bed_second_replica(struct document_bed *bed) {
    say_up(bed, &bed->b, "b", BED_DIGEST);
    until(&bed->bed, route(bed)->replicas[0]->up && route(bed)->replicas[1]->up);
}

static void close_index(struct bed_index *index) {
    if (index->writer) folder_vectors.close_writer(TAKE(index->writer));
}

void document_bed_close(struct document_bed *bed) {
    client_clear(&bed->client);
    fake_encoder_close(&bed->a);
    fake_encoder_close(&bed->b);
    close_index(&bed->blue);
    close_index(&bed->queries);
    close_index(&bed->green);
    collection_close(bed->log);
    gateway_bed_close(&bed->bed);
    free(bed->root);
    free(bed->folder);
}

/* ---- asking --------------------------------------------------------------------- */

void document_bed_begin(struct document_bed *bed, struct client *client, const char *method, const char *target,
                        const char *type, const char *body, size_t size) {
    const struct http_header headers[] = {{"Content-Type", type ? type : "application/json"}};
    client_ask(&bed->bed, client,
               &(struct http_call_request){.method = method,
                                           .target = target,
                                           .host = "test",
                                           .headers = headers,
                                           .header_count = 1,
                                           .body = body,
                                           .body_size = size,
                                           .has_body = body});
}

int document_bed_ask(struct document_bed *bed, const char *method, const char *target, const char *type,
                     const char *body) {
    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, method, target, type, body, body ? strlen(body) : 0);
    client_wait(&bed->bed, &bed->client);
    return bed->client.has_failed ? -1 : bed->client.status;
}

void document_bed_expect(struct document_bed *bed, int status, const char *method, const char *target,
                         const char *body) {
    int got = document_bed_ask(bed, method, target, NULL, body);
    if (got != status) fail_msg("%s %s: %d: %s", method, target, got, bed->client.body.bytes);
}

uint64_t document_bed_put(struct document_bed *bed, const char *id, const char *text, const char *payload) {
    _cleanup_free_ char *target = text_format("/v1/collections/c/documents/%s", id);
    _cleanup_free_ char *body =
        text_format("{\"text\":\"%s\"%s%s}", text, payload ? ",\"payload\":" : "", payload ? payload : "");
    document_bed_expect(bed, 200, "PUT", target, body);
    return document_bed_number(bed, "seq");
}

bool document_bed_answer_has(const struct document_bed *bed, const char *part) {
    return bed->client.body.bytes && strstr(bed->client.body.bytes, part);
}

uint64_t document_bed_number(const struct document_bed *bed, const char *key) {
    _cleanup_json_ yyjson_doc *document = yyjson_read(bed->client.body.bytes, bed->client.body.size, 0);
    yyjson_val *number = yyjson_obj_get(yyjson_doc_get_root(document), key);
    if (!yyjson_is_uint(number)) fail_msg("no number %s in %s", key, bed->client.body.bytes);
    return yyjson_get_uint(number);
}

const char *document_bed_hits(const struct document_bed *bed) {
    static char ids[1024];
    _cleanup_json_ yyjson_doc *document = yyjson_read(bed->client.body.bytes, bed->client.body.size, 0);
    size_t index, count, size = 0;
    yyjson_val *hit;
    ids[0] = 0;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(document), "hits"), index, count, hit) {
        const char *id = yyjson_get_str(yyjson_obj_get(hit, "id"));
        size += (size_t)snprintf(ids + size, sizeof ids - size, "%s%s", index ? " " : "", id ? id : "?");
    }
    return ids;
}

/* ---- the indexer's part ------------------------------------------------------------ */

static char *index_folder(const struct document_bed *bed, const struct bed_index *index) {
    return text_format("%s/indexes/%s", bed->folder, index->index_id);
}

void document_bed_make_index(struct document_bed *bed, struct bed_index *index) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_facts facts = {0};
    struct vector_state state;
    _cleanup_free_ char *folder = index_folder(bed, index);
    REQUIRE(collection_read_begin(bed->log, index->set, &read, &error));
    REQUIRE(collection_load_facts(read, &facts, &error));
    const struct vector_spec spec = {.index_id = index->index_id,
                                     .log_id = facts.log_id,
                                     .encoder_digest = index->digest,
                                     .dimension = BED_DIMENSION,
                                     .quantized = bed->quantized};
    REQUIRE(folder_vectors.create(folder, &spec, &error));
    REQUIRE(folder_vectors.open_writer(folder, &spec, 0, &index->writer, &state, &error));
    collection_facts_clear(&facts);
}

static void take_change(struct bed_index *index, const struct collection_change *change) {
    float vector[BED_DIMENSION];
    if (change->row.previous) folder_vectors.kill(index->writer, change->row.previous, change->row.seq);
    if (change->superseded || !change->row.text) return;
    fake_encoder_embed(change->row.text, vector, BED_DIMENSION);
    REQUIRE(folder_vectors.append(index->writer, change->row.seq, vector, &error));
}

void document_bed_follow(struct document_bed *bed, struct bed_index *index) {
    _cleanup_read_ struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(bed->log, index->set, &read, &error));
    uint64_t head = collection_head(read);
    while (index->written < head) {
        struct collection_change *changes = NULL;
        size_t count = 0;
        REQUIRE(collection_changes(read, index->written, head, head, 100, &changes, &count, &error));
        for (size_t i = 0; i < count; i++) take_change(index, &changes[i]);
        index->written = count ? changes[count - 1].row.seq : head;
        collection_changes_free(changes, count);
    }
    folder_vectors.publish(index->writer, index->written, index->written);
}

void document_bed_say_indexed(struct document_bed *bed, uint64_t seq) {
    wire_say(bed->bed.supervisor.channel, log_indexed, .collection_id = BED_COLLECTION_ID, .seq = seq);
}

void document_bed_index(struct document_bed *bed) {
    document_bed_follow(bed, &bed->blue);
    document_bed_say_indexed(bed, bed->blue.written);
}

void document_bed_flip(struct document_bed *bed) {
    const struct collection_index row = {.index_id = (char *)bed->green.index_id,
                                         .deployment_id = (char *)"e",
                                         .encoder_digest = (char *)bed->green.digest,
                                         .task_id = (char *)"task",
                                         .revision = 1,
                                         .dimension = BED_DIMENSION};
    _cleanup_free_ char *added = NULL;
    int64_t epoch;
    uint64_t durable;
    document_bed_make_index(bed, &bed->green);
    REQUIRE(collection_add_index(bed->log, &row, NULL, &added, &error));
    document_bed_follow(bed, &bed->green);
    REQUIRE(folder_vectors.sync(bed->green.writer, &durable, &error));
    REQUIRE(collection_record_durable(bed->log, bed->green.index_id, durable, &error));
    REQUIRE(collection_set_index_state(bed->log, bed->green.index_id, "ready", NULL, NULL, &error));
    REQUIRE(collection_begin_switch(bed->log, "task", bed->green.index_id, &error));
    REQUIRE(collection_flip(bed->log, "task", bed->green.index_id, durable, &epoch, &error));
}
