// Byte strings and the little-endian writer and reader that all of Mneme's own formats use.
//
// A reader never trusts its input: every read is bounded, and after the first that fails all later ones fail too, so a
// decoder may read a whole record and ask ok() once at its end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mneme {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Empties a buffer that is filled again and again, and lets go of its memory if that is more than `most` bytes: what
// something large has once needed.
template <class Container>
void reuse(Container& buffer, size_t most) {
  if (buffer.capacity() > most)
    Container().swap(buffer);  // an assignment may keep it
  else
    buffer.clear();
}

inline bool is_zero(ByteView bytes) {
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are written on little-endian machines only");

template <class T>
requires std::is_integral_v<T>
void store_le(uint8_t* to, T value) { std::memcpy(to, &value, sizeof value); }

template <class T>
requires std::is_integral_v<T> T load_le(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Appends to a container of bytes (Bytes or std::string) that the caller owns.
template <class Container>
class Writer {
 public:
  explicit Writer(Container& out) : out_(out) {}

  void u8(uint8_t v) { put(v); }
  void u16(uint16_t v) { put(v); }
  void u32(uint32_t v) { put(v); }
  void u64(uint64_t v) { put(v); }
  void i64(int64_t v) { put(v); }
  template <class Tag>
  void id(Tag id) {
    put(id.value);
  }
  void raw(ByteView bytes) { append(bytes.data(), bytes.size()); }
  void raw(std::string_view text) { append(text.data(), text.size()); }
  // A 4-byte length, then the bytes.
  void blob(std::string_view text) {
    u32(static_cast<uint32_t>(text.size()));
    raw(text);
  }
  size_t size() const { return out_.size(); }

 private:
  template <class T>
  void put(T v) {
    append(&v, sizeof v);
  }
  void append(const void* data, size_t size) {
    const auto* from = static_cast<const typename Container::value_type*>(data);
    if constexpr (std::is_same_v<Container, std::string>)
      out_.append(from, size);
    else
      out_.insert(out_.end(), from, from + size);
  }
  Container& out_;
};

class Reader {
 public:
  explicit Reader(ByteView bytes) : bytes_(bytes) {}
  explicit Reader(std::string_view text) : bytes_(as_bytes(text)) {}

  uint8_t u8() { return get<uint8_t>(); }
  uint16_t u16() { return get<uint16_t>(); }
  uint32_t u32() { return get<uint32_t>(); }
  uint64_t u64() { return get<uint64_t>(); }
  int64_t i64() { return get<int64_t>(); }
  template <class T>
  T id() {
    return T(get<uint64_t>());
  }
  // A view into the input; empty after a failure.
  ByteView raw(size_t size) {
    if (size > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    ByteView view = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return view;
  }
  std::string_view blob() { return as_text(raw(u32())); }

  bool ok() const { return ok_; }
  bool at_end() const { return bytes_.empty(); }
  size_t remaining() const { return bytes_.size(); }

 private:
  template <class T>
  T get() {
    ByteView view = raw(sizeof(T));
    return ok_ ? load_le<T>(view.data()) : T{};
  }
  ByteView bytes_;
  bool ok_ = true;
};

}  // namespace mneme
