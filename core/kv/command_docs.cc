// The COMMAND family: the command table as clients read it, in the shapes of Redis 7.0.
#include "core/kv/command.h"
#include "core/kv/errors.h"
#include "core/protocol/reply.h"

namespace mneme::kv {

namespace {

using namespace protocol;

struct FlagName {
  CommandFlag flag;
  std::string_view name;
};
constexpr FlagName kFlagNames[] = {
    {kWrite, "write"},     {kRead, "readonly"}, {kDenyOom, "denyoom"}, {kAdmin, "admin"},      {kNoScript, "noscript"},
    {kLoading, "loading"}, {kStale, "stale"},   {kFast, "fast"},       {kNoMulti, "no_multi"}, {kNoAuth, "no_auth"},
};

// Redis has sets here; an array of distinct words is what clients make of both.
void put_flags(std::string& out, const CommandSpec& spec) {
  size_t count = 0;
  for (const FlagName& f : kFlagNames) count += spec.is(f.flag);
  put_array(out, count);
  for (const FlagName& f : kFlagNames) {
    if (spec.is(f.flag)) put_simple(out, f.name);
  }
}

void put_categories(std::string& out, const CommandSpec& spec) {
  std::string_view words[5];
  size_t count = 0;
  if (spec.is(kWrite)) words[count++] = "@write";
  if (spec.is(kRead)) words[count++] = "@read";
  if (spec.group == "string" || spec.group == "mneme") words[count++] = "@string";
  if (spec.group == "generic") words[count++] = "@keyspace";
  if (spec.group == "connection") words[count++] = "@connection";
  if (spec.group == "transactions") words[count++] = "@transaction";
  if (spec.is(kAdmin)) words[count++] = "@admin";
  words[count++] = spec.is(kFast) ? "@fast" : "@slow";
  if (spec.is(kAdmin) || spec.is(kDangerous)) words[count++] = "@dangerous";
  put_array(out, count);
  for (size_t i = 0; i < count; ++i) put_simple(out, words[i]);
}

void put_key_specs(std::string& out, const CommandSpec& spec) {
  if (spec.first_key == 0) return put_array(out, 0);
  put_array(out, 1);
  put_map(out, 3);
  put_bulk(out, "flags");
  put_array(out, 2);
  put_simple(out, spec.is(kWrite) ? "RW" : "RO");
  put_simple(out, spec.is(kWrite) ? "update" : "access");
  put_bulk(out, "begin_search");
  put_map(out, 2);
  put_bulk(out, "type");
  put_bulk(out, "index");
  put_bulk(out, "spec");
  put_map(out, 1);
  put_bulk(out, "index");
  put_integer(out, spec.first_key);
  put_bulk(out, "find_keys");
  put_map(out, 2);
  put_bulk(out, "type");
  put_bulk(out, "range");
  put_bulk(out, "spec");
  put_map(out, 3);
  put_bulk(out, "lastkey");  // relative to the first
  put_integer(out, spec.last_key < 0 ? spec.last_key : spec.last_key - spec.first_key);
  put_bulk(out, "keystep");
  put_integer(out, spec.key_step);
  put_bulk(out, "limit");
  put_integer(out, 0);
}

bool is_subcommand(const CommandSpec& spec) { return spec.name.find('|') != std::string_view::npos; }

bool is_top_level(const CommandSpec& spec) { return !is_subcommand(spec) && !spec.is(kInternal); }

const CommandSpec* find_public(std::string_view name) {
  const CommandSpec* spec = find_command(name);
  return spec != nullptr && !spec->is(kInternal) ? spec : nullptr;
}

bool is_subcommand_of(const CommandSpec& spec, const CommandSpec& container) {
  return spec.name.size() > container.name.size() && spec.name.starts_with(container.name) &&
         spec.name[container.name.size()] == '|';
}

template <class Fn>
void for_each_subcommand(const CommandSpec& container, Fn fn) {
  for (const CommandSpec& spec : all_commands()) {
    if (is_subcommand_of(spec, container)) fn(spec);
  }
}

size_t subcommand_count(const CommandSpec& container) {
  size_t count = 0;
  for_each_subcommand(container, [&](const CommandSpec&) { ++count; });
  return count;
}

size_t top_level_count() {
  size_t count = 0;
  for (const CommandSpec& spec : all_commands()) count += is_top_level(spec);
  return count;
}

void put_info(std::string& out, const CommandSpec& spec) {
  put_array(out, 10);
  put_bulk(out, spec.name);
  put_integer(out, spec.arity);
  put_flags(out, spec);
  put_integer(out, spec.first_key);
  put_integer(out, spec.last_key);
  put_integer(out, spec.key_step);
  put_categories(out, spec);
  put_array(out, 0);  // tips
  put_key_specs(out, spec);
  put_array(out, subcommand_count(spec));
  for_each_subcommand(spec, [&](const CommandSpec& sub) { put_info(out, sub); });
}

void put_docs(std::string& out, const CommandSpec& spec) {
  size_t subcommands = subcommand_count(spec);
  put_bulk(out, spec.name);
  put_map(out, subcommands == 0 ? 3 : 4);
  put_bulk(out, "summary");
  put_bulk(out, spec.summary);
  put_bulk(out, "since");
  put_bulk(out, spec.since);
  put_bulk(out, "group");
  put_bulk(out, spec.group == "mneme" ? "module" : spec.group);  // redis-cli knows a fixed list of groups
  if (subcommands == 0) return;
  put_bulk(out, "subcommands");
  put_map(out, subcommands);
  for_each_subcommand(spec, [&](const CommandSpec& sub) { put_docs(out, sub); });
}

void answer_docs(Args args, std::string& out) {
  if (args.size() == 2) {
    put_map(out, top_level_count());
    for (const CommandSpec& spec : all_commands()) {
      if (is_top_level(spec)) put_docs(out, spec);
    }
    return;
  }
  size_t known = 0;
  for (std::string_view name : args.subspan(2)) known += find_public(name) != nullptr;
  put_map(out, known);
  for (std::string_view name : args.subspan(2)) {
    if (const CommandSpec* spec = find_public(name)) put_docs(out, *spec);
  }
}

void answer_info(Args names, std::string& out) {
  put_array(out, names.size());
  for (std::string_view name : names) {
    if (const CommandSpec* spec = find_public(name)) {
      put_info(out, *spec);
    } else {
      put_null(out);
    }
  }
}

void answer_getkeys(Args command, std::string& out) {
  std::string ignored;
  const CommandSpec* spec = find_public(command[0]);
  if (spec == nullptr) return put_error(out, "ERR Invalid command specified");
  if (const CommandSpec* checked = check(command, ignored)) {
    spec = checked;
  } else {
    return put_error(out, "ERR Invalid number of arguments specified for command");
  }
  if (spec->first_key == 0) return put_error(out, "ERR The command has no key arguments");
  size_t count = 0;
  for_each_key(*spec, command, [&](std::string_view) { ++count; });
  put_array(out, count);
  for_each_key(*spec, command, [&](std::string_view key) { put_bulk(out, key); });
}

// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN glob]: there are neither modules nor access lists.
void answer_list(Args args, std::string& out) {
  std::string_view pattern = "*";
  if (args.size() == 5 && equals_ignoring_case(args[2], "filterby") && equals_ignoring_case(args[3], "pattern")) {
    pattern = args[4];
  } else if (args.size() != 2) {
    return put_error(out, kSyntaxError);
  }
  auto listed = [&](const CommandSpec& spec) { return !spec.is(kInternal) && glob_matches(pattern, spec.name); };
  size_t count = 0;
  for (const CommandSpec& spec : all_commands()) count += listed(spec);
  put_array(out, count);
  for (const CommandSpec& spec : all_commands()) {
    if (listed(spec)) put_bulk(out, spec.name);
  }
}

void answer_all(std::string& out) {
  put_array(out, top_level_count());
  for (const CommandSpec& spec : all_commands()) {
    if (is_top_level(spec)) put_info(out, spec);
  }
}

}  // namespace

void answer_command(CommandId id, Args args, std::string& out) {
  switch (id) {
    case CommandId::kCommand: return answer_all(out);
    case CommandId::kCommandCount: return put_integer(out, static_cast<int64_t>(top_level_count()));
    case CommandId::kCommandDocs: return answer_docs(args, out);
    case CommandId::kCommandGetkeys: return answer_getkeys(args.subspan(2), out);
    case CommandId::kCommandInfo: return args.size() == 2 ? answer_all(out) : answer_info(args.subspan(2), out);
    case CommandId::kCommandList: return answer_list(args, out);
    default: return put_error(out, kSyntaxError);
  }
}

}  // namespace mneme::kv
