#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "train/training.h"

namespace tonearm {

/// Some feature vectors and their labels, as in Dataset.
struct RowBlock {
  std::size_t rows = 0;
  std::span<const float> values;  // row-major, rows x features; NaN is missing
  std::span<const float> target;
};

/// Rows that can be read again and again, always the same in the same order, block by block: more than
/// memory holds.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual std::size_t features() const = 0;
  /// Calls sink for every block of rows; a block lives as long as the call.
  virtual void read(const std::function<void(const RowBlock&)>& sink) = 0;
};

/// The rows of a dataset in memory, which must outlive it.
class DatasetRows : public RowSource {
 public:
  explicit DatasetRows(const Dataset& data) : data_(data) {}
  std::size_t features() const override { return data_.features; }
  void read(const std::function<void(const RowBlock&)>& sink) override;

 private:
  const Dataset& data_;
};

/// How much memory may be kept for rows. What needs more lives in temporary files in `folder`: without
/// a name from the start, so they are gone when the process ends, however it ends.
struct MemoryLimit {
  std::size_t bytes = std::numeric_limits<std::size_t>::max();
  std::filesystem::path folder = {};
};

/// A file without a name. Reading and writing throw Error naming its folder; several threads may do so.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& folder);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void read(std::size_t offset, std::span<std::byte> bytes) const;
  void write(std::size_t offset, std::span<const std::byte> bytes) const;

 private:
  std::filesystem::path path_;  // the name it had
  int file_ = -1;
};

/// An array of `width` numbers for each row, in memory or in a temporary file. Callers look at a few
/// thousand rows at a time, which costs nothing in memory and a copy to their own buffer otherwise.
template <typename T>
class RowArray {
 public:
  RowArray() = default;
  /// In memory, all zero.
  RowArray(std::size_t width, std::size_t rows) : width_(width), memory_(width * rows) {}
  /// In a file.
  RowArray(std::size_t width, const std::filesystem::path& folder)
      : width_(width), file_(std::make_unique<TemporaryFile>(folder)) {}

  /// All rows, if they are in memory.
  std::vector<T>& memory() { return memory_; }
  const std::vector<T>& memory() const { return memory_; }

  const T* read(std::size_t first, std::size_t rows, std::vector<T>& buffer) const {
    if (!file_) return memory_.data() + first * width_;
    buffer.resize(rows * width_);
    file_->read(first * width_ * sizeof(T), std::as_writable_bytes(std::span(buffer)));
    return buffer.data();
  }
  /// Where new values of these rows can be put; write() keeps them.
  T* place(std::size_t first, std::size_t rows, std::vector<T>& buffer) {
    if (!file_) return memory_.data() + first * width_;
    buffer.resize(rows * width_);
    return buffer.data();
  }
  /// The values of these rows, which may be changed; write() keeps them.
  T* edit(std::size_t first, std::size_t rows, std::vector<T>& buffer) {
    read(first, rows, buffer);
    return file_ ? buffer.data() : memory_.data() + first * width_;
  }
  /// Keeps what is at a place() or under edit().
  void write(std::size_t first, std::size_t rows, const T* values) {
    if (file_) file_->write(first * width_ * sizeof(T), std::as_bytes(std::span(values, rows * width_)));
  }

 private:
  std::size_t width_ = 0;
  std::vector<T> memory_;
  std::unique_ptr<TemporaryFile> file_;
};

}  // namespace tonearm
