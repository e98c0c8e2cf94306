// Errors of system calls on files as Errors of ours.
#pragma once

#include <string_view>

#include "core/base/error.h"

namespace mneme::disk {

// `error` is an errno. The sentence names the operation, the path and the system's own message.
std::unexpected<Error> system_error(std::string_view operation, std::string_view path, int64_t error);

}  // namespace mneme::disk
