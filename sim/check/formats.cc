#include "sim/check/formats.h"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <optional>
#include <unordered_map>

namespace mneme::check {
namespace {

// What all line formats share: which client has which operation open.
class Recorder {
 public:
  explicit Recorder(History& history) : history_(history) {}

  // False: it has one open already.
  bool invoke(uint32_t client, const Operation& what) {
    auto [at, added] = open_.try_emplace(client, 0);
    if (!added) return false;
    at->second = history_.invoke(what);
    return true;
  }
  std::optional<OpId> close(uint32_t client) {
    auto at = open_.find(client);
    if (at == open_.end()) return std::nullopt;
    OpId id = at->second;
    open_.erase(at);
    return id;
  }

 private:
  History& history_;
  std::unordered_map<uint32_t, OpId> open_;
};

std::unexpected<Error> wrong(size_t line, const std::string& what) {
  return fail(ErrorCode::kInvalid, fmt::format("line {}: {}", line, what));
}

// For messages: what stands there, not too much of it and nothing that would upset a terminal.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (unsigned char c : text.substr(0, 40)) out += c >= ' ' && c < 0x7f ? static_cast<char>(c) : '?';
  return out + (text.size() > 40 ? "...'" : "'");
}

std::optional<uint32_t> to_client(std::string_view text) {
  uint32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool whole = error == std::errc() && end == text.data() + text.size() && number != kNoClient;
  return whole ? std::optional(number) : std::nullopt;
}

std::string_view next_line(std::string_view& rest) {
  size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

constexpr std::string_view kBlanks = " \t";

std::string_view next_word(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(kBlanks)));
  std::string_view word = rest.substr(0, rest.find_first_of(kBlanks));
  rest.remove_prefix(word.size());
  return word;
}

bool is_log_level(std::string_view word) {
  return word == "INFO" || word == "WARN" || word == "ERROR" || word == "DEBUG" || word == "FATAL";
}

struct JepsenEvent {
  std::string_view type;
  std::string_view f;
  std::string_view first;   // the value, or the first of a pair
  std::string_view second;  // of a pair
  bool pair = false;
};

std::optional<JepsenEvent> jepsen_event(std::string_view rest) {
  JepsenEvent event;
  event.type = next_word(rest);
  event.f = next_word(rest);
  event.first = next_word(rest);
  if (event.first.starts_with('[')) {
    event.pair = true;
    event.second = next_word(rest);
    if (!event.second.ends_with(']') || event.first.size() < 2 || event.second.size() < 2) return std::nullopt;
    event.first.remove_prefix(1);
    event.second.remove_suffix(1);
  }
  bool at_end = event.first.empty() || next_word(rest).empty() || event.first.starts_with(':');
  return at_end ? std::optional(event) : std::nullopt;
}

}  // namespace

Result<History> parse_jepsen(std::string_view text) {
  History history;
  Recorder recorder(history);
  KeyId key = history.key("register");
  auto value = [&](std::string_view word) { return word == "nil" ? kAbsent : history.value(word); };
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    std::string_view rest = next_line(text);
    std::string_view level = next_word(rest);
    if (level.empty()) continue;
    std::string_view logger = next_word(rest);
    if (!is_log_level(level)) return wrong(number, fmt::format("{} begins no line of a Jepsen log", quoted(level)));
    std::string_view dash = next_word(rest);
    std::string_view process = next_word(rest);
    bool of_process = logger == "jepsen.util" && dash == "-" && !process.starts_with(':');
    if (!of_process) continue;
    std::optional<uint32_t> client = to_client(process);
    if (!client) return wrong(number, fmt::format("{} is not the number of a process", quoted(process)));
    std::optional<JepsenEvent> event = jepsen_event(rest);
    if (!event) return wrong(number, fmt::format("cannot read the event {}", quoted(rest)));

    bool is_cas = event->f == ":cas";
    if (!is_cas && event->f != ":read" && event->f != ":write") {
      return wrong(number, fmt::format("{} is not :read, :write or :cas", quoted(event->f)));
    }
    bool has_value = !event->first.empty() && !event->first.starts_with(':');
    bool needs_value = event->type == ":invoke" || event->type == ":ok";
    if (needs_value && (!has_value || event->pair != is_cas)) {
      return wrong(number, fmt::format("{} {} does not go with this value", event->type, event->f));
    }
    if (event->type == ":invoke") {
      Operation what = get(*client, key);
      if (is_cas) what = cas(*client, key, value(event->first), value(event->second));
      if (event->f == ":write") what = set(*client, key, value(event->first));
      if (!recorder.invoke(*client, what))
        return wrong(number, fmt::format("process {} has one open already", *client));
      continue;
    }
    if (event->type != ":ok" && event->type != ":fail" && event->type != ":info") {
      return wrong(number, fmt::format("{} is not :invoke, :ok, :fail or :info", quoted(event->type)));
    }
    std::optional<OpId> id = recorder.close(*client);
    if (!id) return wrong(number, fmt::format("process {} has nothing open", *client));
    Kind expected = is_cas ? Kind::kCas : event->f == ":read" ? Kind::kGet : Kind::kSet;
    if (history.operations[*id].kind != expected) {
      return wrong(number, fmt::format("process {} had something else open", *client));
    }
    if (event->type == ":info") continue;
    bool told_no = event->type == ":fail" && is_cas && event->pair;
    if (event->type == ":fail" && !told_no) {
      history.did_not_happen(*id);
    } else if (is_cas) {
      history.complete(*id, Reply::yes(!told_no));
    } else {
      history.complete(*id, event->f == ":read" ? Reply::of(value(event->first)) : Reply::nothing());
    }
  }
  return history;
}

namespace {

// The part of EDN that the key-value logs use: a flat map of keywords to keywords, numbers, strings and nil.
class EdnMap {
 public:
  struct Item {
    std::string text;
    bool is_string = false;
  };

  // What is wrong, or nothing.
  std::optional<std::string> parse(std::string_view line) {
    items_.clear();
    rest_ = line;
    blanks();
    if (!take('{')) return "a line must be a map in braces";
    blanks();
    while (!take('}')) {
      Item key;
      Item value;
      if (!item(key) || key.is_string || !key.text.starts_with(':')) return "a map's keys must be keywords";
      blanks();
      if (!item(value)) return fmt::format("the value of {} cannot be read", quoted(key.text));
      if (!items_.emplace(key.text, std::move(value)).second) return fmt::format("{} is there twice", quoted(key.text));
      blanks();
      if (rest_.empty()) return "the map is not closed";
    }
    blanks();
    if (!rest_.empty()) return fmt::format("{} follows the map", quoted(rest_));
    return std::nullopt;
  }
  const Item* find(const std::string& key) const {
    auto at = items_.find(key);
    return at == items_.end() ? nullptr : &at->second;
  }

 private:
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void blanks() { rest_.remove_prefix(std::min(rest_.size(), rest_.find_first_not_of(" \t,"))); }
  bool item(Item& out) {
    if (!take('"')) {
      std::string_view word = rest_.substr(0, rest_.find_first_of(" \t,{}\""));
      rest_.remove_prefix(word.size());
      out.text = word;
      return !word.empty();
    }
    out.is_string = true;
    while (!rest_.empty()) {
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') return true;
      if (c != '\\') {
        out.text += c;
        continue;
      }
      if (rest_.empty()) return false;
      char escaped = rest_.front();
      rest_.remove_prefix(1);
      switch (escaped) {
        case 'n': out.text += '\n'; break;
        case 't': out.text += '\t'; break;
        case 'r': out.text += '\r'; break;
        case '"':
        case '\\': out.text += escaped; break;
        default: return false;
      }
    }
    return false;
  }

  std::string_view rest_;
  std::map<std::string, Item> items_;
};

}  // namespace

Result<History> parse_kv(std::string_view text) {
  History history;
  history.initial = history.value("");
  Recorder recorder(history);
  EdnMap map;
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    std::string_view line = next_line(text);
    if (line.find_first_not_of(kBlanks) == std::string_view::npos) continue;
    if (auto problem = map.parse(line)) return wrong(number, *problem);
    for (const char* needed : {":process", ":type", ":f", ":key", ":value"}) {
      if (map.find(needed) == nullptr) return wrong(number, fmt::format("{} is missing", needed));
    }
    std::optional<uint32_t> client = to_client(map.find(":process")->text);
    if (!client)
      return wrong(number, fmt::format("{} is not the number of a process", quoted(map.find(":process")->text)));
    const std::string& type = map.find(":type")->text;
    const std::string& f = map.find(":f")->text;
    const EdnMap::Item& key = *map.find(":key");
    const EdnMap::Item& value = *map.find(":value");
    if (!key.is_string) return wrong(number, ":key must be a string");
    if (f != ":get" && f != ":put" && f != ":append") {
      return wrong(number, fmt::format("{} is not :get, :put or :append", quoted(f)));
    }
    bool is_get = f == ":get";
    Kind kind = is_get ? Kind::kGet : f == ":put" ? Kind::kSet : Kind::kAppend;
    bool needs_value = (type == ":ok" && is_get) || (type == ":invoke" && !is_get);
    if (needs_value && !value.is_string)
      return wrong(number, fmt::format("the value of {} {} must be a string", type, f));
    if (type == ":invoke") {
      Operation what{.client = *client, .key = history.key(key.text), .kind = kind};
      if (!is_get) what.a = history.value(value.text);
      if (!recorder.invoke(*client, what))
        return wrong(number, fmt::format("process {} has one open already", *client));
      continue;
    }
    if (type != ":ok" && type != ":fail" && type != ":info") {
      return wrong(number, fmt::format("{} is not :invoke, :ok, :fail or :info", quoted(type)));
    }
    std::optional<OpId> id = recorder.close(*client);
    if (!id) return wrong(number, fmt::format("process {} has nothing open", *client));
    const Operation& op = history.operations[*id];
    if (op.kind != kind || history.keys.text(op.key) != key.text) {
      return wrong(number, fmt::format("process {} had something else open", *client));
    }
    if (type == ":ok") history.complete(*id, is_get ? Reply::of(history.value(value.text)) : Reply::nothing());
    if (type == ":fail") history.did_not_happen(*id);
  }
  return history;
}

}  // namespace mneme::check
