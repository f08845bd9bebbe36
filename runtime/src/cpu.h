#pragma once

#include <stdint.h>

namespace tonearm::runtime {

/// What tonearm_cpu_detect() gives.
uint32_t detected_cpus();

}  // namespace tonearm::runtime
