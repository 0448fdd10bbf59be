/* What the test programs share: a check that says what went wrong and where. */
#ifndef CHECK_H
#define CHECK_H

#include <lsvd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: not so: %s\nlast error: %s\n", __FILE__, __LINE__,         \
                    #condition, lsvd_last_error());                                            \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* The call returns this value, and the message of its failure contains this word. */
#define CHECK_FAILS(call, value, word)                                                         \
    do {                                                                                       \
        CHECK((call) == (value));                                                              \
        CHECK(strstr(lsvd_last_error(), (word)) != NULL);                                      \
    } while (0)

#endif
