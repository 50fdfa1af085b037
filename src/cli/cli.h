/* The command line: `slipway <command> …` on libslipway. Results go to stdout, progress and errors to stderr.
 * May use: base, client. One thread. */
#pragma once

/* Runs argv[1] and returns the exit status (cli-internal.h lists them; `slipway help` prints them). */
int cli_main(int argc, char **argv);
