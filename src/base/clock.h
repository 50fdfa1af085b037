/* Time. Durations and deadlines use the monotonic clock in milliseconds; records use the wall clock in milliseconds
 * since 1970 UTC and are shown as RFC 3339 ("2026-11-21T13:09:00.123Z"). */
#pragma once
#include <stdint.h>

uint64_t clock_monotonic_ms(void);
uint64_t clock_monotonic_us(void);
int64_t clock_wall_ms(void);
/* `ret_text` has room for 25 bytes. */
void clock_format(int64_t wall_ms, char ret_text[25]);
