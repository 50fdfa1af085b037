/* Weights on huge pages.
 *
 * A run of one short text reads every weight once, tens of megabytes front to back, and on pages of 4 KiB a good part
 * of its time goes into finding the pages: all-MiniLM-L6-v2 (43 MB of weights) takes 14 to 16 % less time for one
 * text on huge pages, 4 % less for eight. Where the system gives them only to those who ask
 * (transparent_hugepage/enabled says madvise), malloc has to ask, and glibc's takes that from the environment alone,
 * before main(): GLIBC_TUNABLES=glibc.malloc.hugetlb=1. A supervisor starts its runners with it; a runner that
 * somebody else starts gives it to itself.
 */
#pragma once

/* Runs this program again with the variable where it is missing, and then does not return. Returns where it is there,
 * whatever it says, and where the program cannot be run again: that only costs speed. To be called first, with main()'s
 * own arguments from the word `runner` on. */
void runner_ask_for_huge_pages(int argc, char **argv);
