#include "sim/scenarios/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace mneme::sim {

Result<void> Options::set(std::string_view name, int64_t value) {
  auto spec = std::find_if(kOptionSpecs.begin(), kOptionSpecs.end(), [&](auto& s) { return s.name == name; });
  if (spec == kOptionSpecs.end()) {
    std::string known;
    for (auto& s : kOptionSpecs) (known += known.empty() ? "" : ", ") += s.name;
    return fail(ErrorCode::kInvalid, fmt::format("unknown option '{}'; the options are: {}", name, known));
  }
  if (value < spec->lowest || value > spec->highest)
    return fail(ErrorCode::kInvalid,
                fmt::format("{} = {} is out of bounds: it is a whole number from {} to {}{}{}", name, value,
                            spec->lowest, spec->highest, spec->unit.empty() ? "" : ", in ", spec->unit));
  values_[static_cast<size_t>(spec - kOptionSpecs.begin())] = value;
  return {};
}

Result<void> Options::set(std::string_view name, std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::kInvalid, fmt::format("{} = '{}' is not a whole number", name, text));
  return set(name, value);
}

Result<Options> Options::expand(const Fate& fate) const {
  Options expanded = *this;
  for (size_t i = 0; i < kOptionCount; ++i) {
    if (expanded.values_[i]) continue;
    const OptionSpec& spec = kOptionSpecs[i];
    // Swarm: a kind of fault or operation that may be absent is absent in a third of the seeds.
    int64_t value = static_cast<int64_t>(
        fate.between(static_cast<uint64_t>(spec.from), static_cast<uint64_t>(spec.to), Choice::kSwarm, i, 0));
    if (static_cast<Option>(i) == Option::sync_latency)
      value = static_cast<int64_t>(
          fate.between(static_cast<uint64_t>(spec.from), static_cast<uint64_t>(value), Choice::kSwarm, i, 2));
    if (spec.from == 0 && fate.chance(333'333, Choice::kSwarm, i, 1)) value = 0;
    if (static_cast<Option>(i) == Option::nodes) value |= 1;
    expanded.values_[i] = value;
  }
  auto contradiction = [](std::string why) { return fail(ErrorCode::kInvalid, std::move(why)); };
  if (expanded[Option::heartbeat] * 2 > expanded[Option::election_timeout]) {
    if (given(Option::heartbeat) && given(Option::election_timeout))
      return contradiction(fmt::format("heartbeat = {} ms must be at most half of election_timeout = {} ms",
                                       expanded[Option::heartbeat], expanded[Option::election_timeout]));
    const auto open = given(Option::heartbeat) ? Option::election_timeout : Option::heartbeat;
    expanded.values_[static_cast<size_t>(open)] = open == Option::heartbeat
                                                      ? std::max<int64_t>(expanded[Option::election_timeout] / 3, 5)
                                                      : expanded[Option::heartbeat] * 3;
  }
  int64_t weights = 0;
  for (Option mix : {Option::mix_get, Option::mix_set, Option::mix_del, Option::mix_cas, Option::mix_incr,
                     Option::mix_append, Option::mix_expire, Option::mix_getset})
    weights += expanded[mix];
  if (weights == 0) return contradiction("the weights mix_* are all 0: there is no operation to choose from");
  if (expanded[Option::retrying] + expanded[Option::sessions] > 100) {
    if (given(Option::retrying) && given(Option::sessions))
      return contradiction(
          fmt::format("retrying = {} and sessions = {} are more than 100 percent of the clients together",
                      expanded[Option::retrying], expanded[Option::sessions]));
    const auto open = given(Option::retrying) ? Option::sessions : Option::retrying;
    const auto other = given(Option::retrying) ? Option::retrying : Option::sessions;
    expanded.values_[static_cast<size_t>(open)] = 100 - expanded[other];
  }
  // A damaged disk may be lost for good, so a majority must have disks that are never damaged.
  if (expanded[Option::nodes] < 3 && expanded[Option::rots] + expanded[Option::read_errors] > 0) {
    if ((given(Option::rots) && expanded[Option::rots] > 0) ||
        (given(Option::read_errors) && expanded[Option::read_errors] > 0))
      return contradiction(
          fmt::format("nodes = {} leaves no copy that rots or read_errors may damage: use nodes = 3 or more",
                      expanded[Option::nodes]));
    expanded.values_[static_cast<size_t>(Option::rots)] = 0;
    expanded.values_[static_cast<size_t>(Option::read_errors)] = 0;
  }
  return expanded;
}

std::string Options::text() const {
  std::string out;
  for (size_t i = 0; i < kOptionCount; ++i)
    if (values_[i]) out += fmt::format("{}{}={}", out.empty() ? "" : " ", kOptionSpecs[i].name, *values_[i]);
  return out;
}

}  // namespace mneme::sim
