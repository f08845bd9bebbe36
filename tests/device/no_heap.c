/* The runtime, and everything linked with it here, calls none of these: the linker leads them to this trap. */
#include <stddef.h>

#include "board.h"

/* The names that the linker asks for. NOLINTBEGIN(bugprone-reserved-identifier) */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static void trap(const char *name) {
    board_write(name);
    board_write(" was called\n");
    board_exit(98);
}

void *__wrap_malloc(size_t size) {
    (void)size;
    trap("malloc");
    return NULL;
}

void *__wrap_calloc(size_t count, size_t size) {
    (void)count;
    (void)size;
    trap("calloc");
    return NULL;
}

void *__wrap_realloc(void *memory, size_t size) {
    (void)memory;
    (void)size;
    trap("realloc");
    return NULL;
}

void __wrap_free(void *memory) {
    (void)memory;
    trap("free");
}
/* NOLINTEND(bugprone-reserved-identifier) */
