/* Controller, indexer, gateway and runner for tests of the supervisor alone: a test program that calls
 * fake_roles_main() first is also the program whose roles the supervisor starts.
 *
 * fake controller, indexer and gateway hand every message on to the test, over the socket named by FAKE_ROLES_SOCKET,
 * and every message of the test to the supervisor, so that the test itself is each of them. They answer pings. They
 * tell the test of a SIGTERM by a hello with role "SIGTERM", and do what its orders say (fake_order()).
 *
 * The fake runner does what the file `script` in its model's folder says, one word:
 *   ready       listens, reports what it finds around itself, answers pings, ends at SIGTERM
 *   stubborn    the same, but SIGTERM is ignored
 *   deaf        the same, but answers no ping
 *   loud        the same, and writes numbered lines without end, into the file that log_file brings from then on
 *   dies-loud   the same, but with that file it writes "last words" there and exits 7, saying nothing
 *   silent      never reports
 *   exit-7      writes "last words" and exits 7; crash: the same, then SIGSEGV
 *   permanent   reports a failure for good and exits 3; transient: one that may pass
 *   rubbish     sends bytes that are no message; forge: sends a message that is the controller's to send
 *
 * What they leave out: HTTP, databases, models. */
#pragma once
#include <stdbool.h>

/* True when argv named a role, which has then run; *ret_status is what main() is to return. */
bool fake_roles_main(int argc, char **argv, int *ret_status);

enum fake_order { FAKE_EXIT, FAKE_EXIT_PERMANENT, FAKE_DEAF };
/* Sends an order to the fake at the other end of the test's socket. */
void fake_order(int socket, enum fake_order order);
