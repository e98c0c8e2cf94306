// Our own history format; formats.h has its description.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "sim/check/formats.h"

namespace mneme::check {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<std::string_view, Kind>, 9> kOps = {{{"get", Kind::kGet},
                                                                    {"set", Kind::kSet},
                                                                    {"delete", Kind::kDelete},
                                                                    {"cas", Kind::kCas},
                                                                    {"incr", Kind::kIncr},
                                                                    {"append", Kind::kAppend},
                                                                    {"setnx", Kind::kSetNx},
                                                                    {"getset", Kind::kGetSet},
                                                                    {"expire", Kind::kExpire}}};

std::unexpected<Error> invalid(std::string what) { return fail(ErrorCode::kInvalid, std::move(what)); }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

Result<std::string> bytes_of(const Json& json, const char* name) {
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_object() || json.size() != 1 || !json.contains("hex") || !json["hex"].is_string()) {
    return invalid(fmt::format("\"{}\" must be a string or {{\"hex\": \"...\"}}", name));
  }
  const auto& digits = json["hex"].get_ref<const std::string&>();
  std::string out;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    int high = hex_digit(digits[i]);
    int low = hex_digit(digits[i + 1]);
    if (high < 0 || low < 0) return invalid(fmt::format("\"{}\" has something else than hex digits in it", name));
    out += static_cast<char>(high * 16 + low);
  }
  if (digits.size() % 2 != 0) return invalid(fmt::format("\"{}\" has half a byte in it", name));
  return out;
}

Result<ValueId> value_of(const Json& json, const char* name, History& history) {
  if (json.is_null()) return kAbsent;
  return history.value(TRY(bytes_of(json, name)));
}

Result<int64_t> integer_of(const Json& line, const char* name, int64_t least) {
  auto at = line.find(name);
  if (at == line.end() || !at->is_number_integer()) return invalid(fmt::format("\"{}\" must be a whole number", name));
  if (at->is_number_unsigned() && at->get<uint64_t>() > INT64_MAX)
    return invalid(fmt::format("\"{}\" is too large", name));
  auto number = at->get<int64_t>();
  if (number < least) return invalid(fmt::format("\"{}\" must not be below {}", name, least));
  return number;
}

Result<Reply> reply_of(const Json& line, Kind kind, History& history) {
  auto at = line.find("result");
  if (at == line.end()) return Reply::nothing();
  if (at->is_boolean()) {
    if (kind != Kind::kDelete && kind != Kind::kCas && kind != Kind::kSetNx) {
      return invalid("this \"op\" does not answer with true or false");
    }
    return Reply::yes(at->get<bool>());
  }
  if (at->is_number_integer()) {
    if (kind != Kind::kIncr && kind != Kind::kAppend) return invalid("this \"op\" does not answer with a number");
    return Reply::count(TRY(integer_of(line, "result", INT64_MIN)));
  }
  if (at->is_object() && at->contains("error")) {
    if (kind != Kind::kIncr) return invalid("this \"op\" has no errors with a meaning");
    if ((*at)["error"] == "not_an_integer") return Reply::error(ReplyKind::kNotAnInteger);
    if ((*at)["error"] == "overflow") return Reply::error(ReplyKind::kOverflow);
    return invalid("\"error\" must be \"not_an_integer\" or \"overflow\"");
  }
  if (kind != Kind::kGet && kind != Kind::kGetSet && kind != Kind::kAppend) {
    return invalid("this \"op\" does not answer with a value");
  }
  return Reply::of(TRY(value_of(*at, "result", history)));
}

Result<void> check_names(const Json& line) {
  static constexpr std::array kNames = {"client", "key",     "op",        "value",  "expected", "by",      "call",
                                        "return", "call_ns", "return_ns", "failed", "result",   "revision"};
  for (const auto& item : line.items()) {
    if (std::ranges::find(kNames, item.key()) == kNames.end()) {
      return invalid(fmt::format("\"{}\" is not the name of a field", item.key().substr(0, 40)));
    }
  }
  return {};
}

// Positions as in the file.
struct Place {
  int64_t call;
  int64_t ret;  // -1: none
};

Result<Place> read_operation(const Json& line, History& history) {
  TRY(check_names(line));
  Operation op;
  if (line.contains("client")) {
    int64_t client = TRY(integer_of(line, "client", 0));
    if (client >= kNoClient) return invalid("\"client\" is too large");
    op.client = static_cast<uint32_t>(client);
  }
  if (!line.contains("key")) return invalid("\"key\" is missing");
  op.key = history.key(TRY(bytes_of(line["key"], "key")));
  auto name = line.find("op");
  auto known = std::ranges::find_if(kOps, [&](const auto& one) { return name != line.end() && *name == one.first; });
  if (known == kOps.end()) {
    return invalid("\"op\" must be get, set, delete, cas, incr, append, setnx, getset or expire");
  }
  op.kind = known->second;
  bool writes = op.kind == Kind::kSet || op.kind == Kind::kAppend || op.kind == Kind::kSetNx ||
                op.kind == Kind::kGetSet || op.kind == Kind::kCas;
  ValueId value = kAbsent;
  if (line.contains("value")) value = TRY(value_of(line["value"], "value", history));
  if (writes && value == kAbsent) return invalid("\"value\" must be there, and not null");
  if (op.kind == Kind::kCas) {
    if (!line.contains("expected")) return invalid("\"expected\" is missing");
    op.a = TRY(value_of(line["expected"], "expected", history));
    op.b = value;
  } else {
    op.a = op.kind == Kind::kExpire && !line.contains("value") ? kAnyValue : value;
  }
  if (op.kind == Kind::kIncr) op.amount = TRY(integer_of(line, "by", INT64_MIN));
  Place place{TRY(integer_of(line, "call", 0)), -1};
  if (line.contains("return")) place.ret = TRY(integer_of(line, "return", place.call + 1));
  if (line.contains("call_ns")) op.call_ns = TRY(integer_of(line, "call_ns", 0));
  if (line.contains("return_ns")) op.return_ns = TRY(integer_of(line, "return_ns", 0));
  if (line.contains("revision")) op.revision = static_cast<uint64_t>(TRY(integer_of(line, "revision", 1)));
  bool failed = line.contains("failed") && line["failed"] == true;
  Reply reply = TRY(reply_of(line, op.kind, history));
  if (failed) {
    op.outcome = Outcome::kFailed;
  } else if (place.ret >= 0) {
    if (op.kind == Kind::kGet && reply.kind == ReplyKind::kNothing) return invalid("\"result\" of a get is missing");
    op.outcome = Outcome::kOk;
    op.reply = reply.kind;
    op.reply_value = reply.value;
    op.reply_number = reply.number;
  }
  history.operations.push_back(op);
  return place;
}

// The numbers of the file become positions 0, 1, 2, ...
Result<void> number_events(History& history, const std::vector<Place>& places, const std::vector<size_t>& lines) {
  struct Event {
    int64_t at;
    size_t op;
    bool is_return;
  };
  std::vector<Event> events;
  for (size_t i = 0; i < places.size(); ++i) {
    events.push_back({places[i].call, i, false});
    if (places[i].ret >= 0) events.push_back({places[i].ret, i, true});
  }
  std::ranges::sort(events, {}, [](const Event& e) { return std::pair(e.at, e.op); });
  for (size_t i = 1; i < events.size(); ++i) {
    if (events[i].at != events[i - 1].at) continue;
    return invalid(fmt::format("line {}: event {} is in line {} as well; \"call\" and \"return\" must all differ",
                               lines[events[i].op], events[i].at, lines[events[i - 1].op]));
  }
  for (const Event& event : events) {
    Operation& op = history.operations[event.op];
    (event.is_return ? op.ret : op.call) = history.positions++;
  }
  return {};
}

Json json_of(std::string_view bytes) {
  Json text = std::string(bytes);
  // The library tells by an exception that the bytes are not UTF-8; asking it to replace them shows the same without.
  if (Json::parse(text.dump(-1, ' ', false, Json::error_handler_t::replace), nullptr, false) == text) return text;
  std::string digits;
  for (unsigned char c : bytes) digits += fmt::format("{:02x}", c);
  return {{"hex", digits}};
}

}  // namespace

Result<History> parse_jsonl(std::string_view text) {
  History history;
  std::vector<Place> places;
  std::vector<size_t> lines;
  size_t number = 0;
  bool first = true;
  while (!text.empty()) {
    ++number;
    size_t end = text.find('\n');
    std::string_view raw = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (raw.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    // The library parses and frees without recursion, so depth costs no more than length.
    Json line = Json::parse(raw, nullptr, false);
    if (line.is_discarded() || !line.is_object()) return invalid(fmt::format("line {}: not a JSON object", number));
    if (first && line.contains("mneme_history")) {
      if (line["mneme_history"] != 1) {
        return fail(ErrorCode::kUnsupported, fmt::format("line {}: written by a newer version of Mneme", number));
      }
      Result<ValueId> initial = kAbsent;
      if (line.contains("initial")) initial = value_of(line["initial"], "initial", history);
      if (!initial) return invalid(fmt::format("line {}: {}", number, initial.error().message));
      history.initial = *initial;
      first = false;
      continue;
    }
    first = false;
    Result<Place> place = read_operation(line, history);
    if (!place) return invalid(fmt::format("line {}: {}", number, place.error().message));
    places.push_back(*place);
    lines.push_back(number);
  }
  TRY(number_events(history, places, lines));
  return history;
}

std::string write_jsonl(const History& history) {
  auto value = [&](ValueId id) { return id == kAbsent ? Json() : json_of(history.values.text(id)); };
  std::string out = nlohmann::ordered_json{{"mneme_history", 1}, {"initial", value(history.initial)}}.dump() + "\n";
  for (const Operation& op : history.operations) {
    nlohmann::ordered_json line;
    if (op.client != kNoClient) line["client"] = op.client;
    line["key"] = json_of(history.keys.text(op.key));
    line["op"] = std::ranges::find(kOps, op.kind, [](const auto& one) { return one.second; })->first;
    switch (op.kind) {
      case Kind::kGet:
      case Kind::kDelete: break;
      case Kind::kCas:
        line["expected"] = value(op.a);
        line["value"] = value(op.b);
        break;
      case Kind::kIncr: line["by"] = op.amount; break;
      case Kind::kExpire:
        if (op.a != kAnyValue) line["value"] = value(op.a);
        break;
      case Kind::kSet:
      case Kind::kAppend:
      case Kind::kSetNx:
      case Kind::kGetSet: line["value"] = value(op.a); break;
    }
    line["call"] = op.call;
    if (op.ret != kForever) line["return"] = op.ret;
    if (op.call_ns != kNoTime) line["call_ns"] = op.call_ns;
    if (op.return_ns != kNoTime) line["return_ns"] = op.return_ns;
    if (op.revision != 0) line["revision"] = op.revision;
    if (op.outcome == Outcome::kFailed) line["failed"] = true;
    if (op.outcome == Outcome::kOk) {
      switch (op.reply) {
        case ReplyKind::kNothing: break;
        case ReplyKind::kValue: line["result"] = value(op.reply_value); break;
        case ReplyKind::kNumber: line["result"] = op.reply_number; break;
        case ReplyKind::kYes: line["result"] = true; break;
        case ReplyKind::kNo: line["result"] = false; break;
        case ReplyKind::kNotAnInteger: line["result"] = {{"error", "not_an_integer"}}; break;
        case ReplyKind::kOverflow: line["result"] = {{"error", "overflow"}}; break;
      }
    }
    out += line.dump() + "\n";
  }
  return out;
}

}  // namespace mneme::check
