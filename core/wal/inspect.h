// A segment file in words, for people: `mneme inspect wal PATH`.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/env/disk.h"

namespace mneme::wal {

// One line for the header, each frame and each record, then where reading stops and why, and what is found behind.
// Whatever the file holds, it is described; errors are the disk's only. Never writes. Suspends.
//
// Only this segment is looked at: whether frames before it or after it are missing is not known here.
Result<void> inspect(env::Disk& disk, const std::string& path, const std::function<void(std::string_view)>& line);

}  // namespace mneme::wal
