/* The golden blobs of every format, linked into the program: made by blobs.cmake from tests/conformance. */
#ifndef TONEARM_TESTS_DEVICE_BLOBS_H
#define TONEARM_TESTS_DEVICE_BLOBS_H

#include <stddef.h>

struct blob {
    const char *name;           /* format and file, e.g. 1.0/encoders */
    const unsigned char *bytes; /* aligned to 64 */
    size_t size;
    const char
        *stored; /* NULL where every bit counts; else the text of its .rows or .events, with the outputs
                         that others may differ from by 1e-6 */
};

extern const struct blob blobs[];
extern const size_t blob_count;

#endif
