/* The indexer: follows the document logs, embeds through runners, writes the vector indexes; the only writer of indexes
 * and of everything in a collection's database but the log's rows (RULES S3, L, X).
 *
 * It learns of collections from the folder <state>/collections at its start and from the controller's asks (asks.def),
 * of replicas from the supervisor (an index is embedded by any replica that is up and reports its encoder_digest), of
 * new writes from the gateways. It needs no controller to go on. Every index it serves is followed for as long as it is
 * on the list: blue, ready, rollback and filling ones.
 *
 * May use: base, http, wire, store, collection, vector. The tour through its files is at the top of indexer.c.
 */
#pragma once
#include "base/settings.h"

/* The role's whole life: descriptor 3 is the channel to the supervisor. Returns the exit status, as gateway_main(). */
int indexer_main(struct settings *settings);
