/* The same on an operating system, so that one program runs on every target. Nothing is buffered: stdio would
 * allocate. */
#define _POSIX_C_SOURCE 199309L
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "board.h"

void board_write(const char *text) {
    for (size_t left = strlen(text); left > 0;) {
        const ssize_t written = write(1, text, left);
        if (written <= 0) _exit(98);
        text += written;
        left -= (size_t)written;
    }
}

void board_exit(int status) { exit(status); }

uint64_t board_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t board_ticks_per_second(void) { return 1000000000; }

void board_stack_mark(void) {}
uint32_t board_stack_used(void) { return 0; }
