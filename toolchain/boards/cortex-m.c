/* Start-up code for Cortex-M4, M7, M33 and M55 on qemu's boards, which answer to semihosting. */
#include <stdint.h>

#include "board.h"
#include "start.h"

#ifndef BOARD_CLOCK
#error "BOARD_CLOCK, the processor's clock in Hz, comes from cmake/firmware.cmake"
#endif

/* ---------------------------------------------------------------------------------- semihosting */

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static void semihost(uint32_t operation, const void *parameter) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = parameter;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void board_write(const char *text) { semihost(SYS_WRITE0, text); }

void board_exit(int status) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    for (;;) semihost(SYS_EXIT_EXTENDED, block);
}

/* ---------------------------------------------------------------------------------------- clock */

/* SysTick counts down 24 bits, with an exception whenever it arrives at 0. Hardware has DWT->CYCCNT, which counts
 * processor cycles in 32 bits; in qemu it always reads 0. */
#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018u)
#define INTERRUPT_STATE (*(volatile uint32_t *)0xE000ED04u)
#define SYSTICK_PENDING (1u << 26)
enum { SYSTICK_LAST = 0xFFFFFF, SYSTICK_ENABLE = 1, SYSTICK_INTERRUPT = 2, SYSTICK_PROCESSOR_CLOCK = 4 };

static volatile uint32_t rounds;

static void count_round(void) { ++rounds; }

void board_start_clock(void) {
    SYSTICK_RELOAD = SYSTICK_LAST;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = SYSTICK_ENABLE | SYSTICK_INTERRUPT | SYSTICK_PROCESSOR_CLOCK;
}

uint64_t board_ticks(void) {
    uint32_t round, value, pending, since;
    do { /* again if a round was counted in between */
        round = rounds;
        value = SYSTICK_VALUE;
        pending = INTERRUPT_STATE & SYSTICK_PENDING;
    } while (round != rounds);
    /* A round begins with 0, when the exception comes; then follow SYSTICK_LAST, and so on down to 1. */
    since = value == 0 ? 0 : SYSTICK_LAST + 1u - value;
    if (pending != 0 && since <= SYSTICK_LAST / 2) ++round; /* begun, but not counted yet */
    return (uint64_t)round * (SYSTICK_LAST + 1u) + since;
}

uint32_t board_ticks_per_second(void) { return BOARD_CLOCK; }

/* --------------------------------------------------------------------------------------- vectors */

/* All in assembly: the floating-point unit (and MVE) is off at reset, and a compiler may use its registers
 * in any function, even to copy a struct. */
void board_reset(void);
__attribute__((naked, noreturn)) void board_reset(void) {
    __asm volatile(
        "ldr r0, =0xE000ED88\n" /* CPACR: full access to coprocessors 10 and 11 */
        "ldr r1, [r0]\n"
        "orr r1, r1, #(0xF << 20)\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
        "ldr r0, =board_stack_bottom\n"
        "ldr r1, =board_stack_top\n"
        "ldr r2, =0xA5A5A5A5\n"
        "1: str r2, [r0], #4\n"
        "cmp r0, r1\n"
        "blo 1b\n"
        "b board_start\n");
}

/* Every fault, and every interrupt that nobody asked for. The stack may be what is broken, so none is used.
 */
__attribute__((naked, noreturn)) static void fault(void) {
    __asm volatile(
        "ldr r0, =board_stack_top\n"
        "mov sp, r0\n"
        "movs r0, #99\n"
        "b board_exit\n");
}

extern uint32_t board_stack_top[];
__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))board_stack_top,
    board_reset,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    0,
    0,
    0,
    fault,
    fault,
    0,
    fault,
    count_round};
