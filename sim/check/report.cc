#include "sim/check/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace mneme::check {
namespace {

std::string seconds(int64_t ns) { return fmt::format("{}.{:03} s", ns / 1'000'000'000, ns / 1'000'000 % 1000); }

std::string client_name(const Operation& op) {
  return op.client == kNoClient ? "store" : fmt::format("c{}", op.client);
}

std::string span_of(const Operation& op) {
  bool timed = op.call_ns != kNoTime;
  std::string begin = timed ? seconds(op.call_ns) : fmt::format("#{}", op.call);
  std::string end = "?";
  if (op.ret != kForever) end = op.return_ns != kNoTime ? seconds(op.return_ns) : fmt::format("#{}", op.ret);
  return begin + " .. " + end;
}

std::string counted(size_t n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

std::string states_in_words(const std::vector<ValueId>& states, const Interner& values) {
  std::string out;
  constexpr size_t kShown = 8;
  for (size_t i = 0; i < states.size(); ++i) {
    if (i == kShown) return out + fmt::format(" or {} others", states.size() - kShown);
    out += (i == 0 ? "" : " or ") + describe_value(states[i], values);
  }
  return out;
}

std::string violation_in_words(const History& history, const Violation& violation) {
  const Operation& failing = history.operations[violation.failing];
  std::string out = fmt::format("not linearizable: key {}\n", describe_value(violation.key, history.keys));
  out += fmt::format("  no order of the operations explains that {} {} gave {}", client_name(failing),
                     describe_call(failing, history.values), describe_reply(failing, history.values));
  if (!violation.possible.empty()) {
    out += fmt::format(": the key can only have held {}", states_in_words(violation.possible, history.values));
  }
  const Core& core = violation.core;
  std::string from;
  if (core.from_any_state) {
    from = ", whatever it held before";
  } else if (!core.from_start) {
    from = fmt::format(", as before them it can only have held {}", states_in_words(core.from, history.values));
  }
  out += fmt::format("\n  {} of {} on the key {} impossible{}{}:\n", core.operations.size(),
                     std::ranges::count(history.operations, violation.key, &Operation::key),
                     core.operations.size() == 1 ? "is" : "are", from,
                     core.confirmed ? " (confirmed by brute force)" : "");
  size_t widest_call = 0;
  size_t widest_span = 0;
  for (OpId id : core.ids) {
    widest_call = std::max(widest_call, describe_call(history.operations[id], history.values).size());
    widest_span = std::max(widest_span, span_of(history.operations[id]).size());
  }
  for (size_t i = 0; i < core.ids.size(); ++i) {
    const Operation& op = history.operations[core.ids[i]];
    bool perhaps = op.outcome == Outcome::kOk && core.operations[i].outcome == Outcome::kUnknown;
    out += fmt::format("    {:5} {:{}}  {:{}}  -> {}{}\n", client_name(op), describe_call(op, history.values),
                       widest_call, span_of(op), widest_span, describe_reply(op, history.values),
                       core.ids[i] == violation.failing ? "   <- impossible"
                       : perhaps                        ? "   (whether or not it happened)"
                                                        : "");
  }
  return out;
}

}  // namespace

std::string account(const History& history, const Verdict& verdict) {
  size_t unknown = static_cast<size_t>(std::ranges::count(history.operations, Outcome::kUnknown, &Operation::outcome));
  std::string size = fmt::format("{} on {}, {} of unknown outcome", counted(history.operations.size(), "operation"),
                                 counted(verdict.keys, "key"), unknown);
  switch (verdict.answer) {
    case Answer::kLinearizable: return fmt::format("linearizable: {}\n", size);
    case Answer::kInconclusive:
      return fmt::format(
          "inconclusive: the budget ran out on key {} ({} steps, {} MiB); neither right nor wrong is shown\n  {}\n",
          describe_value(verdict.inconclusive, history.keys), verdict.steps, verdict.memory >> 20, size);
    case Answer::kViolation: break;
  }
  return violation_in_words(history, verdict.violation) + fmt::format("  {} in all\n", size);
}

namespace {

std::string escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1d1f21;--dim:#6b7075;--line:#e3e4e6;--bar:#d5e3f0;--edge:#8fb0cf;
--maybe:#ece9e1;--core:#ffe2b8;--coreedge:#d98a1f;--bad:#f6c1bd;--badedge:#c8372d;--ok:#2c7a4b}
@media(prefers-color-scheme:dark){:root{--bg:#16181b;--fg:#e4e6e8;--dim:#8d949b;--line:#2b2f34;--bar:#25394c;
--edge:#4d7499;--maybe:#2c2b28;--core:#4a3615;--coreedge:#d9962f;--bad:#57211d;--badedge:#f0675c;--ok:#6cc28c}}
body{margin:0 auto;padding:2rem 1.5rem;max-width:72rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.15rem;font-weight:600;margin:0 0 .2rem}h1.bad{color:var(--badedge)}h1.ok{color:var(--ok)}
p{margin:.2rem 0 1rem;color:var(--dim)}
pre{padding:1rem;border:1px solid var(--line);border-radius:8px;overflow-x:auto;font:13px/1.55 ui-monospace,monospace}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
svg{display:block}svg text{font:12px ui-monospace,monospace;fill:var(--fg)}
.lane{stroke:var(--line)}.who{fill:var(--dim)!important}
.op rect{fill:var(--bar);stroke:var(--edge)}.op.maybe rect{fill:var(--maybe);stroke-dasharray:4 3}
.op.core rect{fill:var(--core);stroke:var(--coreedge);stroke-width:1.5}
.op.bad rect{fill:var(--bad);stroke:var(--badedge);stroke-width:2}
.op:hover rect{stroke-width:2.5}
.key span{display:inline-block;width:.9em;height:.9em;border-radius:3px;margin:0 .35em 0 1em;vertical-align:-.1em}
)css";

// Which operations are drawn: of one key, at most as many as a page shows well, around what matters.
std::vector<OpId> shown_operations(const History& history, const Verdict& verdict, KeyId key) {
  constexpr size_t kShown = 240;
  std::vector<OpId> ids;
  Position end = verdict.answer == Answer::kViolation ? history.operations[verdict.violation.failing].ret : kForever;
  for (OpId id = 0; id < history.operations.size(); ++id) {
    if (history.operations[id].key == key && history.operations[id].call <= end) ids.push_back(id);
  }
  std::ranges::sort(ids, {}, [&](OpId id) { return history.operations[id].call; });
  if (ids.size() <= kShown) return ids;
  std::vector<OpId> out = verdict.answer == Answer::kViolation ? verdict.violation.core.ids : std::vector<OpId>();
  if (out.size() > kShown) out.resize(kShown);
  bool from_end = verdict.answer == Answer::kViolation;
  size_t room = kShown - out.size();
  out.insert(out.end(), from_end ? ids.end() - static_cast<ptrdiff_t>(room) : ids.begin(),
             from_end ? ids.end() : ids.begin() + static_cast<ptrdiff_t>(room));
  std::ranges::sort(out, {}, [&](OpId id) { return history.operations[id].call; });
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

class Timeline {
 public:
  Timeline(const History& history, const Verdict& verdict, std::vector<OpId> ids)
      : history_(history), verdict_(verdict), ids_(std::move(ids)) {
    for (OpId id : ids_) {
      const Operation& op = history_.operations[id];
      events_.push_back(op.call);
      if (op.ret != kForever) events_.push_back(op.ret);
      clients_.push_back(op.client);
    }
    std::ranges::sort(events_);
    std::ranges::sort(clients_);
    clients_.erase(std::ranges::unique(clients_).begin(), clients_.end());
  }

  std::string svg() const {
    int width = kLeft + static_cast<int>(events_.size() + 2) * kStep;
    int height = static_cast<int>(clients_.size()) * kLane + 16;
    std::string out =
        fmt::format("<div class=scroll><svg width={} height={} role=img aria-label=timeline>\n", width, height);
    for (size_t i = 0; i < clients_.size(); ++i) {
      int middle = 8 + static_cast<int>(i) * kLane + kLane / 2;
      out += fmt::format("<line class=lane x1={} y1={} x2={} y2={} /><text class=who x=10 y={}>{}</text>\n", kLeft,
                         middle, width, middle, middle + 4, client_name({.client = clients_[i]}));
    }
    for (OpId id : ids_) out += bar(id, width);
    return out + "</svg></div>\n";
  }

 private:
  static constexpr int kLeft = 60;
  static constexpr int kStep = 26;
  static constexpr int kLane = 40;

  int x_of(Position at) const {
    return kLeft + static_cast<int>(std::ranges::lower_bound(events_, at) - events_.begin() + 1) * kStep;
  }
  // An operation without a return is drawn up to the next one of its client.
  Position end_of(OpId id) const {
    const Operation& op = history_.operations[id];
    if (op.ret != kForever) return op.ret;
    Position end = kForever;
    for (OpId other : ids_) {
      const Operation& next = history_.operations[other];
      if (next.client == op.client && next.call > op.call) end = std::min(end, next.call);
    }
    return end;
  }
  std::string bar(OpId id, int width) const {
    const Operation& op = history_.operations[id];
    bool violated = verdict_.answer == Answer::kViolation;
    const auto& core = verdict_.violation.core.ids;
    std::string look = op.outcome == Outcome::kOk ? "op" : "op maybe";
    if (violated && std::ranges::find(core, id) != core.end()) look += " core";
    if (violated && id == verdict_.violation.failing) look += " bad";
    auto lane = std::ranges::find(clients_, op.client) - clients_.begin();
    int x = x_of(op.call);
    Position end = end_of(id);
    int right = end == kForever ? width - 4 : x_of(end) - (op.ret == kForever ? 6 : 0);
    int wide = std::max(8, right - x);
    int top = 8 + static_cast<int>(lane) * kLane + 5;
    std::string label =
        fmt::format("{} \u2192 {}", describe_call(op, history_.values), describe_reply(op, history_.values));
    // What does not fit is cut by the inner svg and shown in full by the tooltip.
    return fmt::format(
        "<g class=\"{}\"><title>{} {}\n{}</title><rect x={} y={} width={} height=30 rx=5 />"
        "<svg x={} y={} width={} height=30><text x=5 y=19>{}</text></svg></g>\n",
        look, client_name(op), escape(label), escape(span_of(op)), x, top, wide, x, top, std::max(1, wide - 3),
        escape(label));
  }

  const History& history_;
  const Verdict& verdict_;
  std::vector<OpId> ids_;
  std::vector<Position> events_;
  std::vector<uint32_t> clients_;
};

}  // namespace

std::string html_page(const History& history, const Verdict& verdict, std::string_view title) {
  KeyId key = 1;
  if (verdict.answer == Answer::kViolation) key = verdict.violation.key;
  if (verdict.answer == Answer::kInconclusive) key = verdict.inconclusive;
  std::vector<OpId> ids;
  if (key < history.keys.size()) ids = shown_operations(history, verdict, key);
  std::string words = account(history, verdict);
  std::string head = words.substr(0, words.find('\n'));
  std::string out = "<!doctype html>\n<html lang=en><meta charset=utf-8>\n";
  out += "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n";
  out += fmt::format("<title>{}</title>\n<style>{}</style>\n", escape(title), kStyle);
  out += fmt::format("<h1 class={}>{}</h1>\n<p>{}</p>\n", verdict.answer == Answer::kLinearizable ? "ok" : "bad",
                     escape(head), escape(title));
  if (verdict.answer != Answer::kLinearizable) out += fmt::format("<pre>{}</pre>\n", escape(words));
  if (!ids.empty()) {
    size_t all = static_cast<size_t>(std::ranges::count(history.operations, key, &Operation::key));
    out += fmt::format(
        "<p class=key>key {}, {} of {} operations, left to right in the order of events"
        "<span style=\"background:var(--maybe)\"></span>outcome unknown, or did not happen",
        escape(describe_value(key, history.keys)), ids.size(), all);
    if (verdict.answer == Answer::kViolation) {
      out +=
          "<span style=\"background:var(--core)\"></span>impossible together"
          "<span style=\"background:var(--bad)\"></span>the first return that nothing explains";
    }
    out += "</p>\n" + Timeline(history, verdict, std::move(ids)).svg();
  }
  return out + "</html>\n";
}

}  // namespace mneme::check
