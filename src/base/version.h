/* Which build of Slipway this is. */
#pragma once

/* "0.1.0". The program test/slipway-next has another one, and is the same otherwise. */
const char *build_version(void);
