/* Makes all calls of an engine and prints the bits of every answer, for device_count.c to count instructions
 * by kind of call: 0 to 3 are the engine's kinds, 9 is the opening. Kind 8 are all calls again in one go,
 * with the board's ticks before and after, to compare the count with a clock. */
#include "board.h"
#include "device.h"

#define DEFINE_BEGIN(kind)                                  \
  __attribute__((noinline)) void device_begin_##kind(void); \
  __attribute__((noinline)) void device_begin_##kind(void) { __asm volatile("" ::: "memory"); }
DEFINE_BEGIN(0)
DEFINE_BEGIN(1)
DEFINE_BEGIN(2)
DEFINE_BEGIN(3)
DEFINE_BEGIN(8)
DEFINE_BEGIN(9)
__attribute__((noinline)) void device_end(void);
__attribute__((noinline)) void device_end(void) { __asm volatile("" ::: "memory"); }

static void (*const begin[])(void) = {device_begin_0, device_begin_1, device_begin_2, device_begin_3};

static void print(uint64_t number, char end) {
  char text[20], *at = text + sizeof text;
  *--at = 0;
  *--at = end;
  do {
    *--at = "0123456789abcdef"[number % 16];
    number /= 16;
  } while (number != 0);
  board_write(at);
}

int main(void) {
  device_begin_9();
  device_open();
  device_end();
  for (uint32_t i = 0; i < device_calls; ++i) {
    const uint32_t kind = device_kind(i);
    begin[kind]();
    const float* answer = device_call(i);
    device_end();
    for (uint32_t k = 0; k < device_outputs; ++k) {
      uint32_t bits;
      __builtin_memcpy(&bits, &answer[k], sizeof bits);
      print(bits, '\n');
    }
  }
  device_open();
  const uint64_t ticks = board_ticks();
  device_begin_8();
  for (uint32_t i = 0; i < device_calls; ++i) device_call(i);
  device_end();
  print(board_ticks() - ticks, '\n');
  print(board_ticks_per_second(), '\n');
  return 0;
}
