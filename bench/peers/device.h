/* What device_main.c measures: one engine with one model, in one program. device.py writes the rows or
 * events, and the engine if it is compiled trees. */
#ifndef TONEARM_DEVICE_H
#define TONEARM_DEVICE_H

#include <stdint.h>

/* Gets everything ready, if the engine needs that. */
void device_open(void);

/* The calls, in their order, and what kind of call each is: 0 to 3. */
extern const uint32_t device_calls;
uint32_t device_kind(uint32_t call);

/* Answers call `call`, from the raw inputs: so many numbers, valid until the next call. */
extern const uint32_t device_outputs;
const float* device_call(uint32_t call);

#endif
