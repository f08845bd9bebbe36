#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tonearm::runtime {

/// CRC-32 (ISO-HDLC: reflected 0xEDB88320, as in zlib). Start with crc = 0 and pass the result of one
/// piece to the next. About 2 GB/s with the 8 kB of tables; define TONEARM_SMALL for a table of
/// 64 bytes, for microcontrollers.
uint32_t crc32(uint32_t crc, const uint8_t* bytes, size_t size);

}  // namespace tonearm::runtime
