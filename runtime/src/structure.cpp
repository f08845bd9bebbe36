#include "structure.h"

#include <string.h>

namespace tonearm::runtime {
namespace {

enum Kind : uint8_t {
  last,  // behind a table's fields
  byte,
  half,
  word,
  text,
  bytes,
  halves,
  words,
  texts,
  table,
  tables,
  choice
};

/// The tables of the schema; those that a union chooses from follow on each other in its order.
enum TableId : uint8_t {
  head,
  model,
  card,
  split,
  metric,
  conversion,
  column,
  session_rule,
  label_rule,
  feature,
  op,
  tree_inputs,
  recurrent_layer,
  memory_plan,
  golden,
  golden_event,
  encoders,
  kinds = encoders + 16,
  table_count = kinds + 7
};

struct Field {
  uint8_t kind;
  uint8_t of;  // table, tables, choice: which; and whether the field is required
};
constexpr uint8_t required = 0x80;

constexpr Field a(Kind kind, uint8_t of = 0) { return {kind, of}; }
constexpr Field needed(Kind kind, uint8_t of = 0) { return {kind, static_cast<uint8_t>(of | required)}; }

/// Every table's fields in the order of the schema, a union's type before its value. A test holds this
/// against what flatc makes of the schema.
constexpr Field fields[] = {
    // head: of the model, what every version has
    a(half), a(half), a(word), a(word), a(word), a(last),
    // model
    a(half), a(half), a(word), a(word), a(word), needed(table, card), needed(tables, column), needed(words),
    needed(tables, feature), needed(tables, op), a(half), a(half), needed(table, memory_plan),
    a(table, golden), a(table, session_rule), a(table, label_rule), a(bytes), a(last),
    // card
    needed(text), a(text), a(text), a(text), a(word), a(text), a(byte), a(byte), a(text), a(text),
    a(table, split), a(tables, metric), a(table, conversion), a(text), a(last),
    // split
    needed(text), a(word), a(word), a(word), needed(text), a(last),
    // metric
    needed(text), a(word), a(word), a(last),
    // conversion
    a(word), a(word), a(word), a(word), a(word), a(last),
    // column
    needed(text), a(byte), a(byte), a(texts), a(last),
    // session_rule
    a(word), a(word), a(last),
    // label_rule
    a(byte), a(word), a(word), a(word), a(last),
    // feature
    a(byte), needed(halves), a(half), a(half), a(byte), needed(choice, encoders), a(last),
    // op
    a(byte), a(half), a(half), a(half), a(half), a(byte), needed(choice, kinds), a(last),
    // tree_inputs
    needed(halves), needed(bytes), needed(words), needed(words), a(half), a(half), a(half), a(words),
    a(words), a(halves), a(words), a(halves), a(bytes), a(last),
    // recurrent_layer
    a(byte), a(byte), a(byte), a(half), needed(bytes), needed(bytes), a(words), a(words), a(words), a(words),
    a(words), a(words), a(byte), a(byte), a(last),
    // memory_plan
    a(word), a(word), a(word), a(last),
    // golden
    needed(words), needed(words), a(word), a(tables, golden_event), a(last),
    // golden_event
    a(byte), a(word), a(word), a(word), a(byte), a(last),
    // Encoders: identity, scale, one-hot, ordinal, bucket, projection, difference, distance, fact
    a(last), needed(words), needed(words), a(last), a(byte), a(last), needed(words), a(word), a(last),
    needed(words), a(last), needed(words), needed(words), a(last), a(last), a(last), a(byte), a(last),
    // lag, mean, window, total, streak, repeats, normalize
    a(half), a(word), a(byte), a(last), a(word), a(byte), a(word), a(word), a(byte), a(last), a(half),
    a(byte), a(last), a(byte), a(last), a(byte), a(byte), a(last), a(byte), a(half), a(byte), a(last),
    a(byte), a(last),
    // Kinds of operators: affine
    needed(words), needed(words), a(byte), a(last),
    // branching trees
    needed(table, tree_inputs), a(byte), needed(bytes), needed(words), needed(words), a(byte), needed(bytes),
    a(words), a(word), needed(words), a(word), a(byte), a(last),
    // symmetric trees
    needed(table, tree_inputs), a(byte), needed(bytes), a(byte), needed(bytes), a(words), a(word),
    needed(words), a(word), a(last),
    // calibrate
    a(byte), a(word), a(word), a(words), a(words), a(last),
    // block trees
    needed(table, tree_inputs), a(byte), a(word), a(bytes), needed(bytes), a(byte), needed(bytes), a(words),
    a(word), needed(words), a(word), a(last),
    // quantized affine
    a(byte), needed(bytes), needed(words), a(words), a(words), a(byte), a(last),
    // recurrent
    a(byte), a(byte), needed(tables, recurrent_layer), a(half), a(byte), a(word), a(byte), a(byte), a(words),
    a(last)};

/// Where the fields of each table begin.
struct Begins {
  uint8_t of[table_count];
};
constexpr Begins find_begins() {
  Begins begins{};
  uint8_t found = 0;
  for (uint32_t i = 0; i < sizeof fields / sizeof fields[0]; ++i)
    if (i == 0 || fields[i - 1].kind == last) begins.of[found++] = static_cast<uint8_t>(i);
  return begins;
}
constexpr Begins begins = find_begins();
static_assert(sizeof fields / sizeof fields[0] < 256 && fields[begins.of[table_count - 1]].kind == byte);

/// A table on the way, and the vector of tables that is at hand in it.
struct Place {
  uint32_t at, vtable, slots;  // slots that the table has
  uint32_t slot;               // the next one
  uint32_t element, left;      // the next offset of the vector, and how many there are
  uint8_t begin, of;           // the table's first field; what the vector is of
};

/// The schema has no cycle, and this is its height.
constexpr uint32_t height = 4;
constexpr uint32_t most_tables = 1000000;

class Walk {
 public:
  Walk(const uint8_t* blob, uint32_t size) : blob_(blob), size_(size) {}

  bool run(TableId first) {
    Place stack[height];
    Place* top = stack;
    if (!enter(*top, target(0), first)) return false;
    for (;;) {
      uint32_t child = 0;
      uint8_t id = 0;
      if (top->left > 0) {
        child = target(top->element);
        id = top->of;
        top->element += 4;
        --top->left;
      } else {
        const Field field = fields[top->begin + top->slot];
        if (field.kind == last) {
          if (top == stack) return true;
          --top;
          continue;
        }
        const uint32_t at = place(*top, top->slot++);
        if (at == top->at) {
          if ((field.of & required) != 0) return false;
          continue;
        }
        if (field.kind <= word) {
          if (!within(at, 1u << (field.kind - byte))) return false;
          continue;
        }
        child = target(at);
        if (child == 0) return false;
        id = static_cast<uint8_t>(field.of & ~required);
        if (field.kind == choice) {
          const uint32_t type = place(*top, top->slot - 2);
          const uint32_t chosen = type == top->at ? 0 : blob_[type];  // within() has seen it
          // Of an unknown kind nothing is known but where it is.
          if (chosen == 0 || chosen > (id == encoders ? kinds - encoders : table_count - kinds)) continue;
          id = static_cast<uint8_t>(id + chosen - 1);
        } else if (field.kind != table) {
          if (field.kind == text ? !is_text(child) : !vector(child, field.kind)) return false;
          if (field.kind == tables) {
            top->of = id;
            top->left = load(child);
            top->element = child + 4;
          }
          continue;
        }
      }
      if (child == 0 || top + 1 == stack + height || !enter(*++top, child, id)) return false;
    }
  }

 private:
  uint32_t load(uint32_t at) const {
    uint32_t value;
    memcpy(&value, blob_ + at, 4);
    return value;
  }
  uint32_t load_half(uint32_t at) const { return blob_[at] | static_cast<uint32_t>(blob_[at + 1]) << 8; }

  /// A number of so many bytes, which it is aligned to.
  bool within(uint32_t at, uint32_t width) const {
    return at % width == 0 && at < size_ && size_ - at >= width;
  }

  /// Where an offset leads, within the blob; else 0.
  uint32_t target(uint32_t at) const {
    if (!within(at, 4)) return 0;
    const uint32_t offset = load(at);
    return offset == 0 || offset >= size_ - at ? 0 : at + offset;
  }

  /// Where a table has the value of a slot; its own place where it has none.
  uint32_t place(const Place& table, uint32_t slot) const {
    return table.at + (slot < table.slots ? load_half(table.vtable + 4 + 2 * slot) : 0);
  }

  bool enter(Place& place, uint32_t at, uint8_t id) {
    if (at == 0 || tables_++ == most_tables || !within(at, 4)) return false;
    const uint32_t vtable = at - load(at);  // wraps, or leads outside, for nonsense
    if (!within(vtable, 2)) return false;
    const uint32_t bytes = load_half(vtable);
    if (bytes % 2 != 0 || bytes > size_ - vtable) return false;
    place = {at, vtable, bytes < 4 ? 0 : (bytes - 4) / 2, 0, 0, 0, begins.of[id], 0};
    return true;
  }

  /// A vector: its length and all elements; the texts of one of texts.
  bool vector(uint32_t at, uint8_t kind) {
    if (!within(at, 4)) return false;
    const uint32_t shift = kind == bytes ? 0 : kind == halves ? 1 : 2;
    const uint32_t count = load(at), room = size_ - at - 4;
    if (count > room >> shift) return false;
    if (kind != texts) return true;
    // Vectors that share no bytes have no more texts than this: else a small blob could ask for hours of
    // checking.
    texts_ += count;
    if (texts_ > size_ / 4) return false;
    for (uint32_t i = 0; i < count; ++i)
      if (const uint32_t one = target(at + 4 + 4 * i); one == 0 || !is_text(one)) return false;
    return true;
  }

  /// A text: its length, all bytes, and the zero behind them.
  bool is_text(uint32_t at) const {
    if (!within(at, 4)) return false;
    const uint32_t count = load(at), room = size_ - at - 4;
    return count < room && blob_[at + 4 + count] == 0;
  }

  const uint8_t* blob_;
  uint32_t size_;
  uint32_t tables_ = 0, texts_ = 0;
};

}  // namespace

bool has_head(const uint8_t* blob, uint32_t size) { return Walk(blob, size).run(head); }
bool has_structure(const uint8_t* blob, uint32_t size) { return Walk(blob, size).run(model); }

}  // namespace tonearm::runtime
