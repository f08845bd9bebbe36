#pragma once

#include <stdint.h>

namespace tonearm::runtime {

/// The TONEARM_CPU_ bits of this CPU, as far as they can be told without asking the operating system.
uint32_t cpu_of_baseline();

}  // namespace tonearm::runtime
