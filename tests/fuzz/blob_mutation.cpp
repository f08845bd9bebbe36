// Changes a blob as what it is: numbers, lengths, references and absences of its fields. Afterwards its size,
// its checksum and its memory plan are made right again, so that a mutant is refused for what it says, if at
// all, and not for how it says it.

#include <tonearm/tonearm.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "blob_reflection_generated.h"
#include "flatbuffers/minireflect.h"
#include "mutation.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t longest);

namespace {

namespace fb = tonearm_reflection;

/// A number within the blob that a mutation may change.
struct Place {
  enum class Kind { number, length, reference, absence } kind;
  std::uint8_t* at;
  std::size_t bytes;
  bool real = false;  // a float
  /// What a reference leads to: others of the same type may take its place.
  const flatbuffers::TypeTable* table = nullptr;
  flatbuffers::ElementaryType type = flatbuffers::ET_UCHAR;
  bool vector = false;
};

/// Collects the places of a verified blob.
class Places {
 public:
  explicit Places(std::uint8_t* root) { table(root, *fb::ModelTypeTable()); }

  std::vector<Place> found;

 private:
  using Table = flatbuffers::Table;
  using Offset = flatbuffers::uoffset_t;

  /// Numbers of bulk arrays are many and alike: beyond so many of one array, every n-th is enough.
  static constexpr std::size_t most_of_array = 64;

  static std::uint8_t* target(std::uint8_t* at) { return at + flatbuffers::ReadScalar<Offset>(at); }

  void number(std::uint8_t* at, flatbuffers::ElementaryType type, const flatbuffers::TypeTable* table) {
    found.push_back({Place::Kind::number, at, flatbuffers::InlineSize(type, table),
                     type == flatbuffers::ET_FLOAT || type == flatbuffers::ET_DOUBLE});
  }

  void reference(std::uint8_t* at, const flatbuffers::TypeTable* table, flatbuffers::ElementaryType type,
                 bool vector) {
    Place place = {Place::Kind::reference, at, sizeof(Offset)};
    place.table = table, place.type = type, place.vector = vector;
    found.push_back(place);
  }

  void vector(std::uint8_t* at, flatbuffers::ElementaryType type, const flatbuffers::TypeTable* ref) {
    found.push_back({Place::Kind::length, at, sizeof(Offset)});
    const std::size_t count = flatbuffers::ReadScalar<Offset>(at);
    const std::size_t bytes = flatbuffers::InlineSize(type, ref);
    const std::size_t step =
        type == flatbuffers::ET_SEQUENCE ? 1 : std::max<std::size_t>(count / most_of_array, 1);
    for (std::size_t i = 0; i < count; i += step) {
      std::uint8_t* const element = at + sizeof(Offset) + i * bytes;
      if (type == flatbuffers::ET_SEQUENCE)
        reference(element, ref, type, false), table(target(element), *ref);
      else if (type != flatbuffers::ET_STRING)
        number(element, type, ref);
    }
  }

  void table(std::uint8_t* at, const flatbuffers::TypeTable& table_type) {
    auto* const object = reinterpret_cast<Table*>(at);
    std::uint8_t union_type = 0;
    for (std::size_t i = 0; i < table_type.num_elems; ++i) {
      const flatbuffers::TypeCode code = table_type.type_codes[i];
      const auto type = static_cast<flatbuffers::ElementaryType>(code.base_type);
      const auto field = flatbuffers::FieldIndexToOffset(static_cast<flatbuffers::voffset_t>(i));
      std::uint8_t* const value = object->GetAddressOf(field);
      if (value == nullptr) continue;
      // The offset of the field in the vtable: 0 says that it is absent.
      auto* const vtable = const_cast<std::uint8_t*>(object->GetVTable());
      found.push_back({Place::Kind::absence, vtable + field, sizeof(flatbuffers::voffset_t)});
      const flatbuffers::TypeTable* ref =
          code.sequence_ref >= 0 ? table_type.type_refs[code.sequence_ref]() : nullptr;
      const bool is_union =
          ref != nullptr && ref->st == flatbuffers::ST_UNION && type == flatbuffers::ET_SEQUENCE;
      if (is_union) {
        if (union_type == 0 || union_type >= ref->num_elems) continue;
        ref = ref->type_refs[ref->type_codes[union_type].sequence_ref]();
      }
      if (code.is_repeating) {
        reference(value, ref, type, true);
        vector(target(value), type, ref);
      } else if (type == flatbuffers::ET_SEQUENCE) {
        reference(value, ref, type, false);
        table(target(value), *ref);
      } else if (type == flatbuffers::ET_STRING) {
        reference(value, nullptr, type, false);
      } else {
        if (type == flatbuffers::ET_UTYPE) union_type = *value;
        number(value, type, ref);
      }
    }
  }
};

std::uint64_t read(const Place& place) {
  std::uint64_t value = 0;
  std::memcpy(&value, place.at, place.bytes);
  return value;
}

void write(const Place& place, std::uint64_t value) { std::memcpy(place.at, &value, place.bytes); }

std::uint64_t edge(const Place& place, std::minstd_rand& random) {
  if (place.real) {
    static constexpr float numbers[] = {0,
                                        -0.0f,
                                        1,
                                        -1,
                                        0.5f,
                                        1e-45f,
                                        1e-36f,
                                        127,
                                        1e30f,
                                        2e30f,
                                        std::numeric_limits<float>::max(),
                                        -std::numeric_limits<float>::max(),
                                        std::numeric_limits<float>::infinity(),
                                        -std::numeric_limits<float>::infinity(),
                                        std::numeric_limits<float>::quiet_NaN()};
    std::uint32_t bits;
    std::memcpy(&bits, &numbers[below(random, std::size(numbers))], sizeof bits);
    return bits;
  }
  static constexpr std::uint64_t numbers[] = {
      0,      1,      2,     3,      4,       7,          8,          15,        16,  17,
      31,     32,     63,    64,     127,     128,        254,        255,       256, 0x7fff,
      0x8000, 0xffff, 65536, 100000, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff};
  return numbers[below(random, std::size(numbers))];
}

void change(const std::vector<Place>& places, std::minstd_rand& random) {
  // Half of the time what is no bulk: of any kind but number first.
  const Place* place = &places[below(random, places.size())];
  for (int tries = 0; tries < 4 && place->kind == Place::Kind::number && below(random, 2) == 0; ++tries)
    place = &places[below(random, places.size())];
  const std::uint64_t value = read(*place);
  switch (place->kind) {
    case Place::Kind::absence:
      if (below(random, 4) == 0) write(*place, 0);
      break;
    case Place::Kind::length:
      write(*place, below(random, 3) == 0 ? value / 2 : value - 1 + 2 * below(random, 2));
      break;
    case Place::Kind::reference: {
      const Place& other = places[below(random, places.size())];
      if (other.kind != Place::Kind::reference || other.table != place->table || other.type != place->type ||
          other.vector != place->vector)
        break;
      const std::uint8_t* const leads_to = other.at + read(other);
      if (leads_to > place->at) write(*place, static_cast<std::uint64_t>(leads_to - place->at));
      break;
    }
    case Place::Kind::number:
      switch (below(random, 4)) {
        case 0:
          write(*place, edge(*place, random));
          break;
        case 1: {
          const Place& other = places[below(random, places.size())];
          write(*place, read(other));
          break;
        }
        case 2:
          write(*place, value ^ std::uint64_t{1} << below(random, 8 * place->bytes));
          break;
        default:
          write(*place, value - 2 + below(random, 5));
      }
  }
}

/// Size and checksum; and the plan, by what the runtime says that it should be. `model` lies in `data`.
void repair(std::uint8_t* data, std::size_t size) {
  auto* const model = flatbuffers::GetMutableRoot<fb::Model>(data);
  (void)model->mutate_file_bytes(static_cast<std::uint32_t>(size));
  for (int fields = 0; fields < 4; ++fields) {
    const tonearm_open_options options = {sizeof options, 1, TONEARM_CPU_SCALAR, 0};
    tonearm_diagnostic diagnostic = {};
    diagnostic.struct_size = sizeof diagnostic;
    tonearm_model opened;
    const tonearm_status status = tonearm_model_open(&opened, data, size, &options, &diagnostic);
    if (status != TONEARM_INVALID) break;
    fb::MemoryPlan* const plan = model->mutable_memory();
    const auto right = static_cast<std::uint32_t>(diagnostic.limit);
    if (std::strcmp(diagnostic.part, "memory.slots") == 0)
      (void)plan->mutate_slots(right);
    else if (std::strcmp(diagnostic.part, "memory.scratch_bytes") == 0)
      (void)plan->mutate_scratch_bytes(right);
    else if (std::strcmp(diagnostic.part, "memory.session_bytes") == 0)
      (void)plan->mutate_session_bytes(right);
    else
      break;
  }
  (void)model->mutate_crc32(0);
  (void)model->mutate_crc32(static_cast<std::uint32_t>(crc32_z(0, data, size)));
}

bool is_whole(const std::uint8_t* data, std::size_t size) {
  flatbuffers::Verifier verifier(data, size);
  return size >= 16 && fb::VerifyModelBuffer(verifier);
}

}  // namespace

/// A blob says how long it is, so whatever changes, it stays so long.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t longest,
                                               unsigned seed) {
  if (size == 0) return LLVMFuzzerMutate(data, size, longest);
  std::minstd_rand random(seed);
  // References are relative, and numbers are read in place: from a copy that is aligned as a blob is.
  std::vector<std::uint64_t> aligned((size + 7) / 8);
  auto* const blob = reinterpret_cast<std::uint8_t*>(aligned.data());
  std::memcpy(blob, data, size);
  if (below(random, 4) != 0 && is_whole(blob, size)) {
    for (std::size_t changes = 1 + below(random, 4); changes > 0 && is_whole(blob, size); --changes)
      change(Places(const_cast<std::uint8_t*>(
                        reinterpret_cast<const std::uint8_t*>(flatbuffers::GetRoot<fb::Model>(blob))))
                 .found,
             random);
    if (is_whole(blob, size)) repair(blob, size);
    std::memcpy(data, blob, size);
    return size;
  }
  const std::size_t changed = LLVMFuzzerMutate(data, size, size);
  std::copy(blob + changed, blob + size, data + changed);
  return size;
}
