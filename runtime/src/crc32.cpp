#include "crc32.h"

#include <string.h>

namespace tonearm::runtime {
namespace {

constexpr uint32_t polynomial = 0xEDB88320u;

#ifdef TONEARM_SMALL

struct Table {
  uint32_t entry[16];
};

constexpr Table make_table() {
  Table table{};
  for (uint32_t i = 0; i < 16; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 4; ++bit) crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
    table.entry[i] = crc;
  }
  return table;
}

constexpr Table table = make_table();

#else

// table.entry[k][b]: the effect of byte b followed by k zero bytes, so that eight bytes are taken in
// one step (slicing-by-8; Kounavis, Berry 2005).
struct Table {
  uint32_t entry[8][256];
};

constexpr Table make_table() {
  Table table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
    table.entry[0][i] = crc;
  }
  for (int k = 1; k < 8; ++k)
    for (uint32_t i = 0; i < 256; ++i)
      table.entry[k][i] = table.entry[k - 1][i] >> 8 ^ table.entry[0][table.entry[k - 1][i] & 255];
  return table;
}

constexpr Table table = make_table();

#endif

}  // namespace

uint32_t crc32(uint32_t crc, const uint8_t* bytes, size_t size) {
  crc = ~crc;
#ifdef TONEARM_SMALL
  for (; size > 0; ++bytes, --size) {
    crc ^= *bytes;
    crc = crc >> 4 ^ table.entry[crc & 15];
    crc = crc >> 4 ^ table.entry[crc & 15];
  }
#else
  for (; size >= 8; bytes += 8, size -= 8) {
    uint32_t low, high;
    memcpy(&low, bytes, 4);
    memcpy(&high, bytes + 4, 4);
    low ^= crc;
    crc = table.entry[7][low & 255] ^ table.entry[6][low >> 8 & 255] ^ table.entry[5][low >> 16 & 255] ^
          table.entry[4][low >> 24] ^ table.entry[3][high & 255] ^ table.entry[2][high >> 8 & 255] ^
          table.entry[1][high >> 16 & 255] ^ table.entry[0][high >> 24];
  }
  for (; size > 0; ++bytes, --size) crc = crc >> 8 ^ table.entry[0][(crc ^ *bytes) & 255];
#endif
  return ~crc;
}

}  // namespace tonearm::runtime
