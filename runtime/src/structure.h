#pragma once

// The structure of a blob, told apart from its meaning: that every offset leads to what the schema says. What
// flatc generates for it is ten times larger; here one loop follows a table of the schema's fields.

#include <stdint.h>

namespace tonearm::runtime {

/// Whether the first table lies within the blob, and its versions and size: as much as a blob of any future
/// has. Of at least 8 bytes and less than 2 GB, 4-byte aligned, as below.
bool has_head(const uint8_t* blob, uint32_t size);

/// Whether the whole blob has the structure of the schema: as flatbuffers::Verifier answers it, but that no
/// offset in a vector may be 0 or negative either. Constant stack; time is bounded by a limit of a million
/// tables, and of as many texts as fit in the blob.
bool has_structure(const uint8_t* blob, uint32_t size);

}  // namespace tonearm::runtime
