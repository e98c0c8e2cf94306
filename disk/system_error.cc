#include "disk/system_error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace mneme::disk {

namespace {
ErrorCode code_of(int64_t error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR: return ErrorCode::kNotFound;
    case EEXIST:
    case ENOTEMPTY: return ErrorCode::kExists;  // POSIX lets rmdir() say either
    case ENOSPC:
    case EDQUOT: return ErrorCode::kNoSpace;
    case EFBIG: return ErrorCode::kTooLarge;
    case EACCES:
    case EPERM:
    case EROFS: return ErrorCode::kRefused;
    case EBUSY:
    case ETXTBSY: return ErrorCode::kBusy;
    case EMFILE:
    case ENFILE:
    case ENOMEM: return ErrorCode::kUnavailable;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EXDEV: return ErrorCode::kInvalid;
    default: return ErrorCode::kIo;
  }
}
}  // namespace

std::unexpected<Error> system_error(std::string_view operation, std::string_view path, int64_t error) {
  const std::string why = std::generic_category().message(static_cast<int>(error));
  return fail(code_of(error), fmt::format("{} {}: {}", operation, path, why));
}

}  // namespace mneme::disk
