/* The gateway: the only front door.
 *
 * One process, one loop thread, a few workers. It accepts HTTP on the socket that the supervisor opened, sends data
 * requests to replicas and control requests to the controller, and answers the rest itself. Which replicas serve a
 * deployment it reads from the control database (read-only, on a worker); which of them are up at which address it
 * hears from the supervisor. It needs no controller to serve (rules R1 to R4, P4, P6).
 *
 * May use: base, http, wire, store. The tour through its files is at the top of gateway.c.
 */
#pragma once
#include "base/settings.h"

/* The role's whole life: descriptor 3 is the channel to the supervisor, descriptor 4 the listening socket. Returns the
 * exit status: 0 after SIGTERM and a drain, 1 when it could not start or lost its supervisor. Borrows the settings. */
int gateway_main(struct settings *settings);
