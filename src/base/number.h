/* Numbers as text, fast: JSON answers consist of little else. Every ret_text has room for NUMBER_TEXT_MAXIMUM bytes. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NUMBER_TEXT_MAXIMUM 32

/* Writes a finite float with the fewest of 7 to 9 significant digits that read back as the same float (through a
 * double, as JSON readers do). Returns the length; not NUL-terminated. */
size_t number_write_float(float value, char *ret_text);
/* The same for a double, with 15 to 17 digits. */
size_t number_write_double(double value, char *ret_text);
size_t number_write_unsigned(uint64_t value, char *ret_text);
size_t number_write_signed(int64_t value, char *ret_text);
