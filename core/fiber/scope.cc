#include "core/fiber/scope.h"

namespace mneme::fiber {

void Scope::fail(Error error) {
  if (!error_) error_ = std::move(error);
  context_.cancel();
}

void Scope::ended(bool daemon) {
  size_t& count = daemon ? daemons_ : children_;
  CHECK(count > 0);
  --count;
  // The owner parks here only while joining; anywhere else its own wait is what wakes it.
  if (count == 0 && joining_) scheduler_.wake(owner_);
}

void Scope::body_ended(bool cancelled) {
  CHECK(&scheduler_.current() == &owner_);
  if (cancelled) context_.cancel();
  Shield shield(scheduler_);
  joining_ = true;
  while (children_ > 0) scheduler_.park(false);
  if (daemons_ > 0) context_.cancel();
  while (daemons_ > 0) scheduler_.park(false);
  joining_ = false;
}

void Scope::release() {
  Shield shield(scheduler_);
  while (!releases_.empty()) {
    auto release = std::move(releases_.back());
    releases_.pop_back();
    release();
  }
}

Result<void> Scope::outcome() {
  bool from_above = context_.parent_cancelled();
  context_.leave();
  if (error_) return std::unexpected(std::move(*error_));
  if (from_above) scheduler_.throw_if_cancelled();
  return {};
}

}  // namespace mneme::fiber
