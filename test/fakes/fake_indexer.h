/* An indexer without indexes: it answers the controller's asks (indexer/asks.def) with what they do to a collection's
 * database, by the same functions as the real one.
 *
 * Left out: embedding, vectors and their files, following the log (an index is as far as the head when it is asked
 * about), fences and gateways (a flip is acknowledged by all at once), the gate's checks (its report says that all is
 * well but for the failed items). An index's failed items are what fake_indexer_fail_items() says. Asks are worked off
 * one after the other on the fake's own thread; one that is held lets the others pass.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "controller/collections.h"

struct fake_indexer;
struct fake_indexer *fake_indexer_new(const char *state_folder);
void fake_indexer_free(struct fake_indexer *fake);
/* For indexer_link_new(), with the fake as its context. */
int fake_indexer_say(const struct wire_message *message, void *context, struct error **ret_error);
/* From now on `link` hears: first that the indexer is up. */
void fake_indexer_attach(struct fake_indexer *fake, struct indexer_link *link);
/* Whoever was attached is gone; returns when nothing is being told any more. Asks that wait are forgotten. */
void fake_indexer_detach(struct fake_indexer *fake);

/* It dies: what was asked and not answered is forgotten, and nothing is heard until it is up again. */
void fake_indexer_die(struct fake_indexer *fake);
void fake_indexer_come_back(struct fake_indexer *fake);
/* Asks of that verb wait, before anything is done, until fake_indexer_release(). */
void fake_indexer_hold(struct fake_indexer *fake, const char *verb);
/* The same when it is done and only the answer is missing. */
void fake_indexer_hold_answer(struct fake_indexer *fake, const char *verb);
void fake_indexer_release(struct fake_indexer *fake);
/* Until an ask is held; false after 20 s. */
bool fake_indexer_wait_held(struct fake_indexer *fake);
/* The next `times` asks of that verb fail so. */
void fake_indexer_fail(struct fake_indexer *fake, const char *verb, enum error_class class, const char *message,
                       size_t times);
/* Indexes made from now on have so many failed items. */
void fake_indexer_fail_items(struct fake_indexer *fake, size_t count);
/* index_progress for an index, as the real one says it. */
void fake_indexer_tell_progress(struct fake_indexer *fake, const char *collection_id, const char *index_id,
                                uint64_t done, uint64_t total);
/* How many asks of that verb there were. */
size_t fake_indexer_count(struct fake_indexer *fake, const char *verb);
/* `on_ask` is called on the fake's thread before an ask is worked off ("before") and when it has been ("done"). */
void fake_indexer_observe(struct fake_indexer *fake, void (*on_ask)(const char *when, const char *verb, void *context),
                          void *context);
/* Between the two nothing is written. */
void fake_indexer_rest(struct fake_indexer *fake);
void fake_indexer_go_on(struct fake_indexer *fake);
