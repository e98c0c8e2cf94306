#include "sim/scenarios/branching.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace mneme::sim {

namespace {

// Of a thousand runs of `kv`: a probe that more of them reach is not rare.
constexpr uint64_t kRare = 200;

// How many reached a probe, in seeds 1 to 500. Those that are not here are not rare.
constexpr std::pair<Probe, uint64_t> kReachedBy[] = {
    {Probe::session_expired, 0},
    {Probe::out_of_memory_refused, 0},
    {Probe::checkpoint_renewed, 0},
    {Probe::snapshot_over_diverged_log, 2},
    {Probe::damaged_tail_found, 36},
    {Probe::suspect_did_not_vote, 68},
    {Probe::expiry_committed_for_read, 104},
    {Probe::torn_tail_dropped, 116},
    {Probe::disk_full_met, 118},
    {Probe::damaged_middle_found, 124},
    {Probe::suspect_restored_by_leader, 144},
    {Probe::old_term_entry_not_counted, 166},
    {Probe::checkpoint_interrupted, 182},
    {Probe::election_lost, 182},
};

// Branches at the first hit of a probe: the rarer, the more.
uint64_t worth(Probe probe) {
  constexpr uint64_t kMost = 8;
  for (auto& [known, reached_by] : kReachedBy)
    if (known == probe) return std::min(kMost, kRare / std::max<uint64_t>(reached_by, 1));
  return 0;
}

}  // namespace

std::string to_text(const Branches& branches) {
  std::string out;
  for (const Branch& branch : branches) out += fmt::format("{}{}.{}", out.empty() ? "" : " ", branch.event, branch.nth);
  return out;
}

Result<void> add_branch(Branches& branches, std::string_view text) {
  Branch branch;
  const char* end = text.data() + text.size();
  const auto event = std::from_chars(text.data(), end, branch.event);
  const bool dotted = event.ec == std::errc() && event.ptr != end && *event.ptr == '.';
  const auto nth = std::from_chars(dotted ? event.ptr + 1 : end, end, branch.nth);
  if (!dotted || nth.ec != std::errc() || nth.ptr != end || branch.event == 0 || branch.nth == 0)
    return fail(ErrorCode::kInvalid, fmt::format("'{}' is not a branch: write EVENT.NTH, both from 1 on", text));
  if (!branches.empty() && branch.event <= branches.back().event)
    return fail(ErrorCode::kInvalid, fmt::format("branch {} is not later than {}", text, to_text({branches.back()})));
  branches.push_back(branch);
  return {};
}

uint64_t Energy::spend(std::span<const Probe> reached_first) {
  uint64_t most = 0;
  for (Probe probe : reached_first) most = std::max(most, worth(probe));
  const uint64_t spent = std::min(most, left_);
  left_ -= spent;
  return spent;
}

}  // namespace mneme::sim
