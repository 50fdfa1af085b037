/* What a search team writes with libslipway, using nothing but the installed header and library: a collection,
 * documents one by one, in a list and from a stream, searches, a re-index with its rollback, and the three steps of a
 * re-index task of its own. test_library.py builds it with pkg-config and runs it:
 *
 *     search_team URL TOKEN ONE TWO THREE    the URIs of three embedding models
 *
 * Prints what it does; exits 1 at the first thing that is not as the header says. */
#include <slipway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        error = NULL;                                                                                                  \
        int result_ = (call);                                                                                          \
        printf("%s\n", #call);                                                                                         \
        if (result_ != 0) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, error ? error->name : "?",                          \
                    error ? error->message : "?");                                                                     \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)
#define MUST_FAIL(call, wanted)                                                                                        \
    do {                                                                                                               \
        error = NULL;                                                                                                  \
        int result_ = (call);                                                                                          \
        if (result_ != -(int)(wanted))                                                                                 \
            fprintf(stderr, "%d instead of %d: %s\n", result_, -(int)(wanted), error ? error->message : "");           \
        CHECK(result_ == -(int)(wanted) && error && *error->message);                                                  \
        printf("%s: %s\n", error->name, error->message);                                                               \
        slipway_error_free(error);                                                                                     \
    } while (0)

static struct slipway_error *error;

static void deploy(struct slipway *service, const char *name, const char *uri) {
    const struct slipway_deployment_request request = {.model_uri = uri, .deployment_name = name};
    struct slipway_deployment *deployment = NULL;
    MUST(slipway_deploy_model(service, &request, &deployment, &error));
    slipway_deployment_free(deployment);
    MUST(slipway_wait_for_deployment(service, name, 60000, &deployment, &error));
    CHECK(strcmp(deployment->status, "active") == 0);
    slipway_deployment_free(deployment);
}

/* Waits for the task's end, which must be `status`. Takes the task. */
static void settle(struct slipway *service, struct slipway_task *task, const char *status) {
    struct slipway_task *ended = NULL;
    MUST(slipway_wait_for_task(service, task->task_id, 120000, &ended, &error));
    if (strcmp(ended->status, status) != 0) fprintf(stderr, "%s\n", ended->json);
    CHECK(strcmp(ended->status, status) == 0);
    slipway_task_free(ended);
    slipway_task_free(task);
}

/* The best document for the text, which must come from that encoder. */
static void best_is(struct slipway *service, const char *text, const char *id, const char *encoder) {
    const struct slipway_search_request request = {.query = text, .limit = 3};
    struct slipway_hits *hits = NULL;
    MUST(slipway_search(service, "docs", &request, &hits, &error));
    CHECK(hits->count > 0 && strcmp(hits->hits[0].id, id) == 0);
    CHECK(strcmp(hits->deployment, encoder) == 0);
    slipway_hits_free(hits);
}

/* ---- documents ---- */

static void make_and_find(struct slipway *service) {
    const struct slipway_collection_request request = {.name = "docs", .deployment = "one"};
    struct slipway_collection *collection = NULL;
    struct slipway_collection_list *list = NULL;
    MUST(slipway_create_collection(service, &request, &collection, &error));
    CHECK(strcmp(collection->name, "docs") == 0 && collection->documents == 0);
    slipway_collection_free(collection);
    MUST_FAIL(slipway_create_collection(service, &request, &collection, &error), SLIPWAY_CONFLICT);
    MUST(slipway_list_collections(service, 10, 0, &list, &error));
    CHECK(list->count == 1 && list->total_count == 1 && strcmp(list->collections[0]->name, "docs") == 0);
    slipway_collection_list_free(list);

    struct slipway_write write = {0};
    struct slipway_document *document = NULL;
    MUST(slipway_put_document(service, "docs", "a/1", "hello world", "{\"n\":1}", true, &write, &error));
    CHECK(write.seq == 1 && write.indexed && !write.detail);
    slipway_write_clear(&write);
    MUST(slipway_get_document(service, "docs", "a/1", &document, &error));
    CHECK(strcmp(document->text, "hello world") == 0 && strcmp(document->payload_json, "{\"n\":1}") == 0);
    slipway_document_free(document);
    best_is(service, "hello world", "a/1", "one");
    MUST_FAIL(slipway_put_document(service, "docs", "x", "", NULL, false, NULL, &error), SLIPWAY_REQUEST);
    MUST_FAIL(slipway_put_document(service, "none", "x", "text", NULL, false, NULL, &error), SLIPWAY_NOT_FOUND);
    MUST(slipway_delete_document(service, "docs", "a/1", true, &write, &error));
    CHECK(write.seq == 2 && write.indexed);
    slipway_write_clear(&write);
    MUST_FAIL(slipway_delete_document(service, "docs", "a/1", false, NULL, &error), SLIPWAY_NOT_FOUND);
    MUST_FAIL(slipway_get_document(service, "docs", "a/1", &document, &error), SLIPWAY_NOT_FOUND);
}

struct text {
    char bytes[8192];
    size_t size, taken;
};

static int64_t read_text(void *context, char *buffer, size_t size) {
    struct text *text = context;
    size_t left = text->size - text->taken;
    if (size > left) size = left;
    memcpy(buffer, text->bytes + text->taken, size);
    text->taken += size;
    return (int64_t)size;
}

static bool keep_text(void *context, const char *bytes, size_t size) {
    struct text *text = context;
    if (size > sizeof text->bytes - text->size - 1) return false;
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = 0;
    return true;
}

static void write_many(struct slipway *service) {
    const struct slipway_document_write writes[] = {
        {"a", "hello world", "{\"n\":1}"}, {"b", "the ship slides down the way", "{\"n\":2}"}, {"nobody", NULL, NULL}};
    struct slipway_bulk *bulk = NULL;
    MUST(slipway_write_documents(service, "docs", writes, 3, true, &bulk, &error));
    CHECK(bulk->accepted == 2 && bulk->failed == 1 && bulk->errors[0].line == 3);
    CHECK(strcmp(bulk->errors[0].id, "nobody") == 0);
    slipway_bulk_free(bulk);

    struct text in = {.size = 0}, out = {.size = 0};
    in.size =
        (size_t)sprintf(in.bytes, "{\"id\":\"c\",\"text\":\"a b\"}\nnot json\n{\"id\":\"d\",\"text\":\"hello ship\"}");
    const struct slipway_import import = {.read = read_text, .context = &in, .wait_indexed = true};
    MUST(slipway_import_documents(service, "docs", &import, &bulk, &error));
    CHECK(bulk->accepted == 2 && bulk->failed == 1 && bulk->errors[0].line == 2);
    slipway_bulk_free(bulk);
    MUST(slipway_export_documents(service, "docs", keep_text, &out, &error));
    for (const char *const *id = (const char *const[]){"\"a\"", "\"b\"", "\"c\"", "\"d\"", NULL}; *id; id++)
        CHECK(strstr(out.bytes, *id));
    best_is(service, "hello world", "a", "one");

    const struct slipway_search_request filtered = {
        .query = "hello", .filter_json = "{\"field\":\"n\",\"gte\":2}", .with_vector = true};
    struct slipway_hits *hits = NULL, *same = NULL;
    MUST(slipway_search(service, "docs", &filtered, &hits, &error));
    CHECK(hits->count == 1 && strcmp(hits->hits[0].id, "b") == 0 && hits->hits[0].dimension == 8);
    const struct slipway_search_request by_vector = {
        .vector = hits->hits[0].vector, .dimension = 8, .encoder_digest = hits->digest, .limit = 1};
    MUST(slipway_search(service, "docs", &by_vector, &same, &error));
    CHECK(strcmp(same->hits[0].id, "b") == 0 && same->hits[0].score > 0.9999);
    slipway_hits_free(same);
    slipway_hits_free(hits);
}

/* ---- re-index ---- */

static void reindex_and_come_back(struct slipway *service) {
    const struct slipway_reindex_request request = {
        .destination = "two", .has_rollback_window = true, .rollback_window_s = 600, .keep_source = true};
    struct slipway_task *task = NULL;
    MUST(slipway_reindex(service, "docs", &request, &task, &error));
    CHECK(strcmp(task->kind, "reindex") == 0 && strcmp(task->collection, "docs") == 0);
    settle(service, task, "done");
    best_is(service, "hello world", "a", "two");
    struct slipway_index_list *indexes = NULL;
    MUST(slipway_list_indexes(service, "docs", &indexes, &error));
    CHECK(indexes->count == 2);
    slipway_index_list_free(indexes);
    MUST(slipway_rollback_collection(service, "docs", &task, &error));
    settle(service, task, "done");
    best_is(service, "hello world", "a", "one");
    const struct slipway_reindex_request nowhere = {.destination = "nobody"};
    MUST_FAIL(slipway_reindex(service, "docs", &nowhere, &task, &error), SLIPWAY_NOT_FOUND);
}

/* ---- a re-index task of its own ---- */

struct counting_plugin {
    struct slipway_plugin plugin;
    int *asked;
};

static bool is_ready(const struct slipway_plugin *self, const char *embedding_model_id) {
    CHECK(strcmp(embedding_model_id, "three") == 0);
    return ++*((const struct counting_plugin *)self)->asked >= 2;
}

struct noting_worker {
    struct slipway_worker worker;
    char *task_id;
};

static int note(const struct slipway_worker *self, const char *task_id) {
    strcpy(((const struct noting_worker *)self)->task_id, task_id);
    return 0;
}

static void own_task(struct slipway *service, const char *uri) {
    const struct slipway_reindex_task task = {
        .task_id = "own-1", .source_model_id = "one", .dest_model_id = "three", .collection = "docs"};
    int asked = 0;
    char told[128] = "";
    const struct counting_plugin plugin = {{is_ready}, &asked};
    const struct noting_worker worker = {{note}, told};
    const struct slipway_deployment_request config = {.model_uri = uri};
    const struct slipway_model_params params = {.config = &config};
    struct slipway_deployment *deployment = NULL;
    MUST(slipway_initiate_model_deployment_and_wait(service, &plugin.plugin, &task, &params, &worker.worker,
                                                    &deployment, &error));
    CHECK(strcmp(deployment->status, "active") == 0 && asked == 2 && *told);
    slipway_deployment_free(deployment);
    struct slipway_task *child = NULL;
    MUST(slipway_get_task(service, told, &child, &error));
    CHECK(strcmp(child->kind, "deploy") == 0 && strcmp(child->parent_id, "own-1") == 0);
    slipway_task_free(child);

    /* Its own part, which the service does here: filling the index. */
    MUST_FAIL(slipway_blue_switch(service, &task, NULL, &child, &error), SLIPWAY_NOT_FOUND);
    const struct slipway_reindex_request fill = {.destination = "three", .stop_before_switch = true};
    MUST(slipway_reindex(service, "docs", &fill, &child, &error));
    settle(service, child, "done");
    best_is(service, "hello world", "a", "one");

    MUST_FAIL(slipway_initiate_model_deletion(service, &task, "one", NULL, &child, &error), SLIPWAY_REFUSED);
    *told = 0;
    MUST(slipway_blue_switch(service, &task, &worker.worker, &child, &error));
    CHECK(strcmp(child->status, "done") == 0 && strcmp(child->kind, "switch") == 0);
    slipway_task_free(child);
    best_is(service, "hello world", "a", "three");
    MUST(slipway_get_task(service, told, &child, &error));
    CHECK(strcmp(child->kind, "delete") == 0);
    settle(service, child, "done");
    MUST_FAIL(slipway_get_deployment_status(service, "one", &deployment, &error), SLIPWAY_NOT_FOUND);
    MUST_FAIL(slipway_initiate_model_deletion(service, &task, "nobody", NULL, &child, &error), SLIPWAY_DEPLOYMENT);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    struct slipway *service = NULL;
    MUST(slipway_open(argv[1], argv[2], &service, &error));
    deploy(service, "one", argv[3]);
    deploy(service, "two", argv[4]);
    make_and_find(service);
    write_many(service);
    reindex_and_come_back(service);
    own_task(service, argv[5]);
    struct slipway_task *task = NULL;
    MUST(slipway_delete_collection(service, "docs", &task, &error));
    settle(service, task, "done");
    struct slipway_collection *collection = NULL;
    MUST_FAIL(slipway_get_collection(service, "docs", &collection, &error), SLIPWAY_NOT_FOUND);
    slipway_close(service);
    printf("done\n");
    return 0;
}
