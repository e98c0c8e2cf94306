// What the checkpoint's writer and loader share of the format that checkpoint.h documents.
#pragma once

#include "core/base/bytes.h"
#include "core/base/hash.h"

namespace mneme::kv {

inline constexpr std::string_view kCheckpointMagic = "MNEMECKP";
inline constexpr size_t kBlockHeadBytes = 16;

enum BlockType : uint8_t { kHeaderBlock = 0, kRecordsBlock = 1, kSessionsBlock = 2, kEndBlock = 3, kMapBlock = 4 };
enum SessionItem : uint8_t { kSessionItem = 1, kReplyItem = 2 };

// `head` is the block's first 8 bytes.
inline uint64_t block_checksum(uint64_t identity, uint64_t number, std::string_view head, std::string_view payload) {
  std::string words;
  Writer seed(words);
  seed.u64(identity);
  seed.u64(number);
  seed.raw(head.substr(0, 8));
  return xxh3(payload, xxh3(words));
}

}  // namespace mneme::kv
