// The system calls of a file operation, as the engines that block a thread make them.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/bytes.h"

namespace mneme::disk {

int64_t blocking_read(int descriptor, uint64_t offset, std::span<uint8_t> into);
int64_t blocking_write(int descriptor, uint64_t offset, ByteView data);
int64_t blocking_sync(int descriptor);
int64_t blocking_write_and_sync(int descriptor, uint64_t offset, ByteView data);

}  // namespace mneme::disk
