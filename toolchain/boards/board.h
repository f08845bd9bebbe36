/* What a program without an operating system asks of the board that it runs on: some text, an exit status,
 * the time, and how deep its stack went. cortex-m.c and rv32.c speak to qemu's boards, host.c to an operating
 * system. On hardware of your own, write these six functions anew, e.g. over a serial port. */
#ifndef TONEARM_BOARD_H
#define TONEARM_BOARD_H

#include <stdint.h>

/** Writes text as it is. */
void board_write(const char *text);

/** Ends the program. 0 is success; 99 is what a fault (a bad address, a forbidden instruction) exits with. */
#ifdef __GNUC__
__attribute__((noreturn))
#endif
void board_exit(int status);

/** A clock that starts with the program. Under `qemu -icount shift=0` every instruction takes one nanosecond,
 *  so that instructions = ticks * 1e9 / board_ticks_per_second(), rounded to a tick. */
uint64_t board_ticks(void);
uint32_t board_ticks_per_second(void);

/** Stack below the caller's frame that was used since board_stack_mark was last called by a function of the
 * same depth (the caller itself, as a rule), in bytes; 0 where it cannot be told. Exact to a word, provided
 * that the deepest word is not written with the watermark's own bytes, 0xA5. */
void board_stack_mark(void);
uint32_t board_stack_used(void);

#endif
