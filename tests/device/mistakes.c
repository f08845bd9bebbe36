/* What must not go unnoticed on a board; which of the three, CMakeLists.txt says. */
#include <stdint.h>
#include <stdlib.h>

#include "board.h"

#if defined(BAD_ADDRESS)
int main(void) {
    *(volatile uint32_t *)(uintptr_t)0xF8000000 = 1; /* no board has anything there */
    return 0;
}
#elif defined(SMALL_STACK)
static int deep(const volatile char *above, int depth) {
    volatile char here[64];
    here[0] = above[0];
    return depth == 0 ? here[0] : deep(here, depth - 1) + here[0];
}

int main(void) {
    const volatile char zero = 0;
    return deep(&zero, 64);
}
#elif defined(HEAP)
int main(void) {
    void *volatile memory = malloc(3);
    return memory == NULL;
}
#endif
