#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace tonearm {

/// CRC-32 as in zlib (ISO-HDLC: reflected 0xEDB88320), of blobs and checkpoints.
inline std::uint32_t crc32(std::span<const unsigned char> bytes) {
  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> effects{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      std::uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
      effects[byte] = crc;
    }
    return effects;
  }();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const unsigned char byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) & 255];
  return ~crc;
}

}  // namespace tonearm
