#include "sim/scenarios/kv_growth.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/limits.h"

namespace mneme::sim {

namespace {
// Applied while one checkpoint is written, most, and before that what a node that lagged catches up with.
constexpr uint64_t kWhileWritten = 128 * limits::kKiB;
// Before the log behind a checkpoint is let go: what was applied until it began, while it was written, and before one
// that failed because the disk was full.
constexpr uint64_t kSpans = 3;
// An entry that is counted as so many bytes (its payload and 64) takes at most so many times more in the log, where it
// may be alone in a frame: a small one takes a sector.
constexpr uint64_t kLogOverhead = 5;
constexpr uint64_t kLeastEntryBytes = 64;
// Values that are 100 times larger than usual may come together.
constexpr uint64_t kLargestTogether = 4;
// BUGGIFY begins a new segment before the old one is full; at most so often, in frames.
constexpr uint64_t kEarlySegments = 16;
}  // namespace

KvGrowth::KvGrowth(const Options& o) : keep_entries_(static_cast<uint64_t>(o[Option::keep_entries])) {
  const uint64_t segment = static_cast<uint64_t>(o[Option::segment]) * limits::kKiB;
  const uint64_t largest = static_cast<uint64_t>(o[Option::value_bytes]) * (o[Option::large_values] > 0 ? 100 : 1);
  span_bytes_ = kSpans * (std::max(static_cast<uint64_t>(o[Option::checkpoint]) * limits::kKiB, kWhileWritten) +
                          kLargestTogether * largest);
  log_bytes_ = span_bytes_ * kLogOverhead + 4 * segment;
  if (o[Option::rarely] > 0) log_bytes_ += span_bytes_ / kLeastEntryBytes / kEarlySegments * segment;
  checkpoint_files_ = 3 + static_cast<uint64_t>(o[Option::nodes] + o[Option::joins]);
  unstored_ = 2 * (static_cast<uint64_t>(o[Option::max_inflight]) + 1) *
              (static_cast<uint64_t>(o[Option::max_append]) / kLeastEntryBytes + 1);
}

void KvGrowth::applied(GroupId group, const raft::Entry& entry) {
  std::vector<uint64_t>& bytes = bytes_[group];
  if (entry.index.value <= bytes.size()) return;
  const uint64_t before = bytes.empty() ? 0 : bytes.back();
  bytes.resize(entry.index.value, before);
  bytes.back() += entry.payload_bytes() + kLeastEntryBytes;
}

uint64_t KvGrowth::bytes_upto(GroupId group, LogIndex index) const {
  auto found = bytes_.find(group);
  if (index.value == 0 || found == bytes_.end() || found->second.empty()) return 0;
  return found->second[std::min<uint64_t>(index.value, found->second.size()) - 1];
}

namespace {

std::optional<Finding> beyond(const char* property, uint64_t node, std::string_view what, uint64_t figure,
                              uint64_t bound) {
  if (figure <= bound) return std::nullopt;
  return Finding{property, fmt::format("n{} has {} {}; the bound is {}", node, figure, what, bound)};
}

}  // namespace

// Each group keeps as much as if it were alone: one that is idle holds up what the busy ones wrote beside it.
std::optional<Finding> KvGrowth::check_log(uint64_t node, uint64_t log_bytes) const {
  return beyond("disk growth", node, "bytes of log segments", log_bytes,
                log_bytes_ * std::max<size_t>(bytes_.size(), 1));
}

std::optional<Finding> KvGrowth::check(uint64_t node, GroupId group, uint64_t files, const raft::View* replica) const {
  auto of_group = [&](std::string_view what) { return fmt::format("{} of group {}", what, group.value); };
  if (auto found = beyond("disk growth", node, of_group("files of checkpoints"), files, checkpoint_files_))
    return found;
  if (!replica) return std::nullopt;
  const LogIndex wanted(replica->first.prev().value + keep_entries_);
  if (wanted < replica->applied) {
    const uint64_t bytes = bytes_upto(group, replica->applied) - bytes_upto(group, wanted);
    if (auto found = beyond("memory growth", node, of_group("bytes of applied entries in memory"), bytes, span_bytes_))
      return found;
  }
  // What an installed snapshot covers is no entry, though its record may not be stored yet.
  const LogIndex stored = std::max(replica->persisted, replica->first.prev());
  if (replica->role != raft::Role::kFollower || replica->last <= stored) return std::nullopt;
  return beyond("queue growth", node, of_group("entries that are not stored yet"), replica->last.value - stored.value,
                unstored_);
}

}  // namespace mneme::sim
