#include "start.h"

#include <stdint.h>

#include "board.h"

/* From board.ld; only their addresses mean something. */
extern uint32_t board_stack_bottom[], board_stack_top[];
extern uint32_t board_data_begin[], board_data_end[];
extern const uint32_t board_data_source[];
extern uint32_t board_zero_begin[], board_zero_end[];

int main(void);

void board_start(void) {
    const uint32_t *from = board_data_source;
    for (uint32_t *to = board_data_begin; to < board_data_end;) *to++ = *from++;
    for (uint32_t *to = board_zero_begin; to < board_zero_end;) *to++ = 0;
    board_start_clock();
    const int status = main();
    /* Below the stack some boards have other memory, or nothing and still no fault; and no function needs to write
     * all of its frame. */
    for (int i = 0; i < 64; ++i) {
        if (board_stack_bottom[i] != BOARD_WATERMARK) {
            board_write("The stack is too small.\n");
            board_exit(99);
        }
    }
    board_exit(status);
}

/* The caller's stack pointer when board_stack_mark was last called. */
static uint32_t *marked;

__attribute__((noinline)) void board_stack_mark(void) {
    uint32_t *here;
#ifdef __riscv
    __asm volatile("mv %0, sp" : "=r"(here));
#else
    __asm volatile("mov %0, sp" : "=r"(here));
#endif
    marked = __builtin_dwarf_cfa();
    for (volatile uint32_t *word = here; word > board_stack_bottom;) *--word = BOARD_WATERMARK;
}

__attribute__((noinline)) uint32_t board_stack_used(void) {
    const uint32_t *top = marked != 0 ? marked : board_stack_top;
    const volatile uint32_t *word = board_stack_bottom;
    while (word < top && *word == BOARD_WATERMARK) ++word;
    return (uint32_t)((uintptr_t)top - (uintptr_t)word);
}
