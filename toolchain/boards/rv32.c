/* Start-up code for 32-bit RISC-V without floating point (rv32imc) on qemu's `virt` board, which answers to
 * semihosting. Microcontrollers of this class: ESP32-C3, CH32V. */
#include <stdint.h>

#include "board.h"
#include "start.h"

/* ---------------------------------------------------------------------------------- semihosting */

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

/* The three instructions, none of them compressed and all on one page, are what tells the call from a
 * breakpoint. */
__attribute__((naked, noinline)) static void semihost(uint32_t operation, const void *parameter) {
    (void)operation;
    (void)parameter;
    __asm volatile(
        ".option push\n"
        ".option norvc\n"
        ".balign 16\n"
        "slli x0, x0, 0x1f\n"
        "ebreak\n"
        "srai x0, x0, 7\n"
        "ret\n"
        ".option pop\n");
}

void board_write(const char *text) { semihost(SYS_WRITE0, text); }

void board_exit(int status) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    for (;;) semihost(SYS_EXIT_EXTENDED, block);
}

/* ---------------------------------------------------------------------------------------- clock */

void board_start_clock(void) {}

uint64_t board_ticks(void) { /* the instructions that were executed */
    uint32_t high, low, again;
    do {
        __asm volatile(
            ".option push\n"
            ".option arch, +zicsr\n"
            "csrr %0, minstreth\n"
            "csrr %1, minstret\n"
            "csrr %2, minstreth\n"
            ".option pop\n"
            : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

uint32_t board_ticks_per_second(void) { return 1000000000; }

/* ---------------------------------------------------------------------------------------- reset */

/* The first instruction: in data memory's place, where the board begins. Every trap leads to `fault`; the
 * stack may be what is broken, so it begins anew there. */
void board_reset(void);
__attribute__((naked, noreturn, section(".vectors"))) void board_reset(void) {
    __asm volatile(
        ".option push\n"
        ".option arch, +zicsr\n"
        ".option norelax\n"
        "la gp, __global_pointer$\n"
        "la sp, board_stack_top\n"
        "la t0, 2f\n"
        "csrw mtvec, t0\n"
        "la t0, board_stack_bottom\n"
        "li t1, 0xA5A5A5A5\n"
        "1: sw t1, 0(t0)\n"
        "addi t0, t0, 4\n"
        "bltu t0, sp, 1b\n"
        "j board_start\n"
        ".balign 4\n"
        "2: la sp, board_stack_top\n"
        "li a0, 99\n"
        "j board_exit\n"
        ".option pop\n");
}
