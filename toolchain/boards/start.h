/* What the start-up code of the boards shares. */
#ifndef TONEARM_BOARD_START_H
#define TONEARM_BOARD_START_H

/** What board_reset, in assembly, fills the stack with: bytes of 0xA5. */
#define BOARD_WATERMARK 0xA5A5A5A5u

/** Called by board_reset once there is a stack and floating-point registers may be touched: fills in the
 *  variables, runs main, and exits with what it returns. */
__attribute__((noreturn)) void board_start(void);

/** Of the board. */
void board_start_clock(void);

#endif
