#include "sim/scenarios/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/hash.h"

namespace mneme::sim {

namespace {

// Units that measure the same thing, each with how many of the first it is.
struct Unit {
  std::string_view name;
  int64_t size;
};
constexpr Unit kTimes[] = {{"us", 1}, {"ms", 1000}, {"s", 1'000'000}, {"min", 60'000'000}, {"h", 3'600'000'000}};
constexpr Unit kSizes[] = {{"bytes", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}};
constexpr Unit kShares[] = {{"ppm", 1}, {"percent", 10'000}, {"%", 10'000}};

std::span<const Unit> units_like(std::string_view unit) {
  for (std::span<const Unit> units :
       {std::span<const Unit>(kTimes), std::span<const Unit>(kSizes), std::span<const Unit>(kShares)})
    if (std::any_of(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit; })) return units;
  return {};
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// The nth of "a|b|c"; "" behind the last.
std::string_view name_at(std::string_view names, int64_t nth) {
  for (; nth > 0; --nth) names.remove_prefix(std::min(names.find('|'), names.size() - 1) + 1);
  return names.substr(0, names.find('|'));
}

Result<int64_t> parse_value(const OptionSpec& spec, std::string_view written) {
  const std::string_view text = trimmed(written);
  auto wrong = [&] {
    return fail(ErrorCode::kInvalid,
                fmt::format("{} = '{}' is not a value of it: write {}", spec.name, written, spec.allowed()));
  };
  if (spec.named())
    for (int64_t value = spec.lowest; value <= spec.highest; ++value)
      if (name_at(spec.unit, value) == text) return value;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return wrong();
  const std::string_view unit = trimmed(text.substr(static_cast<size_t>(end - text.data())));
  if (unit.empty() || unit == spec.unit) return number;
  const std::span<const Unit> units = units_like(spec.unit);
  auto given = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit; });
  if (given == units.end()) return wrong();
  const int64_t own =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == spec.unit; })->size;
  int64_t smallest = 0;
  if (__builtin_mul_overflow(number, given->size, &smallest) || smallest % own != 0) return wrong();
  return smallest / own;
}

const OptionSpec& spec_of(Option option) { return kOptionSpecs[static_cast<size_t>(option)]; }

Result<size_t> find_option(std::string_view name) {
  auto spec = std::find_if(kOptionSpecs.begin(), kOptionSpecs.end(), [&](auto& s) { return s.name == name; });
  if (spec != kOptionSpecs.end()) return static_cast<size_t>(spec - kOptionSpecs.begin());
  std::string known;
  for (auto& s : kOptionSpecs) (known += known.empty() ? "" : ", ") += s.name;
  return fail(ErrorCode::kInvalid, fmt::format("unknown option '{}'; the options are: {}", name, known));
}

auto contradiction(std::string why) { return fail(ErrorCode::kInvalid, std::move(why)); }

}  // namespace

std::string OptionSpec::text(int64_t value) const {
  return named() ? std::string(name_at(unit, value)) : std::to_string(value);
}

std::string OptionSpec::allowed() const {
  if (named()) {
    std::string names;
    for (int64_t value = lowest; value <= highest; ++value) (names += names.empty() ? "" : " or ") += text(value);
    return names;
  }
  std::string out = fmt::format("a whole number from {} to {}", lowest, highest);
  if (unit.empty()) return out;
  out += fmt::format(", in {}", unit);
  std::string others;
  for (const Unit& u : units_like(unit))
    if (u.name != unit) (others += others.empty() ? "" : ", ") += u.name;
  return out + fmt::format(" or with a unit ({})", others);
}

Result<void> Options::set(std::string_view name, Range range) {
  const size_t at = TRY(find_option(name));
  const OptionSpec& spec = kOptionSpecs[at];
  for (int64_t value : {range.from, range.to})
    if (value < spec.lowest || value > spec.highest)
      return fail(ErrorCode::kInvalid, fmt::format("{} = {} is out of bounds: it is {}", name, value, spec.allowed()));
  if (range.from > range.to)
    return fail(ErrorCode::kInvalid, fmt::format("{} = {}..{}: the range is empty", name, range.from, range.to));
  ranges_[at] = range;
  return {};
}

Result<void> Options::set(std::string_view name, std::string_view text) {
  const OptionSpec& spec = kOptionSpecs[TRY(find_option(name))];
  const size_t dots = text.find("..");
  const int64_t from = TRY(parse_value(spec, text.substr(0, dots)));
  const int64_t to = dots == std::string_view::npos ? from : TRY(parse_value(spec, text.substr(dots + 2)));
  return set(name, Range{from, to});
}

bool Options::given(Option option) const {
  const auto& range = ranges_[static_cast<size_t>(option)];
  return range && range->from == range->to;
}

Range Options::range(Option option) const {
  const OptionSpec& spec = spec_of(option);
  return ranges_[static_cast<size_t>(option)].value_or(Range{spec.from, spec.to});
}

Result<Options> Options::expand(const Fate& fate) const {
  Options expanded = *this;
  for (size_t i = 0; i < kOptionCount; ++i) {
    const auto option = static_cast<Option>(i);
    if (given(option)) continue;
    const Range range = this->range(option);
    const uint64_t named = xxh3(as_bytes(kOptionSpecs[i].name));
    auto between = [&](int64_t from, int64_t to, uint64_t what) {
      return static_cast<int64_t>(
          fate.between(static_cast<uint64_t>(from), static_cast<uint64_t>(to), Choice::kSwarm, named, what));
    };
    int64_t value = between(range.from, range.to, 0);
    if (option == Option::sync_latency) value = between(range.from, value, 2);
    // A kind of fault or operation that may be absent is absent in a third of the seeds.
    if (range.from == 0 && fate.chance(333'333, Choice::kSwarm, named, 1)) value = 0;
    if (option == Option::nodes && value < range.to) value |= 1;
    expanded.fix(option, value);
  }
  TRY(expanded.reconcile(*this));
  return expanded;
}

// Where what was drawn contradicts what was given, the drawn gives way; where two that were given contradict each
// other, the user is told.
Result<void> Options::reconcile(const Options& asked) {
  const Options& now = *this;
  // An answer takes a sync on the slowest disk of a majority, and another one if somebody's is under way.
  const int64_t slowest_sync = now[Option::sync_latency] * (1 + now[Option::sync_spread]) / 1000;  // ms, at the least
  for (Option timeout : {Option::request_timeout, Option::election_timeout, Option::client_timeout})
    if (!asked.given(timeout))
      fix(timeout, std::min(std::max(now[timeout], 7 * slowest_sync), spec_of(timeout).highest));
  if (now[Option::heartbeat] * 2 > now[Option::election_timeout]) {
    if (asked.given(Option::heartbeat) && asked.given(Option::election_timeout))
      return contradiction(fmt::format("heartbeat = {} ms must be at most half of election_timeout = {} ms",
                                       now[Option::heartbeat], now[Option::election_timeout]));
    if (asked.given(Option::heartbeat))
      fix(Option::election_timeout, now[Option::heartbeat] * 3);
    else
      fix(Option::heartbeat, std::max<int64_t>(now[Option::election_timeout] / 3, 5));
  }
  int64_t weights = 0;
  for (Option mix : {Option::mix_get, Option::mix_set, Option::mix_del, Option::mix_cas, Option::mix_incr,
                     Option::mix_append, Option::mix_expire, Option::mix_getset})
    weights += now[mix];
  if (weights == 0) return contradiction("the weights mix_* are all 0: there is no operation to choose from");
  if (now[Option::retrying] + now[Option::sessions] > 100) {
    if (asked.given(Option::retrying) && asked.given(Option::sessions))
      return contradiction(
          fmt::format("retrying = {} and sessions = {} are more than 100 percent of the clients together",
                      now[Option::retrying], now[Option::sessions]));
    if (asked.given(Option::retrying))
      fix(Option::sessions, 100 - now[Option::retrying]);
    else
      fix(Option::retrying, 100 - now[Option::sessions]);
  }
  // Slower than this, a link hardly carries the heartbeats, or no client has the patience for a large value, which
  // passes two links and shares them with others.
  if (!asked.given(Option::bandwidth) && now[Option::bandwidth] > 0) {
    const int64_t largest = now[Option::value_bytes] * (now[Option::large_values] > 0 ? 100 : 1);  // bytes
    const int64_t usable = 8 * largest * 1000 / 1024 / now[Option::client_timeout];                // KiB per second
    fix(Option::bandwidth,
        std::max({now[Option::bandwidth], int64_t{256}, std::min(usable, spec_of(Option::bandwidth).highest)}));
  }
  TRY(bound_drift(asked));
  // A damaged disk may be lost for good, so in the recoverable regime a majority must have disks that are never
  // damaged.
  const Option fewest = now[Option::nodes] < 3 ? Option::nodes : Option::copies;
  const bool minority = now[fewest] >= 3;
  for (Option damage : {Option::rots, Option::read_errors, Option::tail_rots, Option::wipes, Option::old_copies,
                        Option::lying_disks, Option::lost_writes, Option::misdirected_writes, Option::replacements}) {
    if (minority || now[damage] == 0) continue;
    if (asked.given(damage) && now[Option::regime] == static_cast<int64_t>(Regime::kRecoverable))
      return contradiction(
          fmt::format("{} = {} leaves no copy that {} = {} may damage: use {} = 3 or more, or regime = unrestricted",
                      spec_of(fewest).name, now[fewest], spec_of(damage).name, now[damage], spec_of(fewest).name));
    if (!asked.given(damage)) fix(damage, 0);
  }
  return {};
}

// Leases are safe while no two clocks drift apart by more than nodes were told, so each keeps to half of it. It does
// not where all three options were given: that is how to see what becomes of leases beyond their bound.
Result<void> Options::bound_drift(const Options& asked) {
  const Options& now = *this;
  const int64_t needed = 2 * now[Option::drift];
  if (now[Option::leases] == 0 || needed <= now[Option::max_drift]) return {};
  if (!asked.given(Option::drift)) {
    fix(Option::drift, now[Option::max_drift] / 2);
  } else if (!asked.given(Option::max_drift) && needed <= spec_of(Option::max_drift).highest) {
    fix(Option::max_drift, needed);
  } else if (!asked.given(Option::leases)) {
    fix(Option::leases, 0);
  } else if (!asked.given(Option::max_drift)) {
    return contradiction(
        fmt::format("leases = 1 is not safe with drift = {} ppm, whatever nodes are told: use leases = 0, or give "
                    "max_drift, too, and expect violations",
                    now[Option::drift]));
  }
  return {};
}

std::string Options::text() const {
  std::string out;
  for (size_t i = 0; i < kOptionCount; ++i) {
    if (!ranges_[i]) continue;
    const OptionSpec& spec = kOptionSpecs[i];
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", spec.name, spec.text(ranges_[i]->from));
    if (ranges_[i]->from != ranges_[i]->to) out += fmt::format("..{}", spec.text(ranges_[i]->to));
  }
  return out;
}

}  // namespace mneme::sim
