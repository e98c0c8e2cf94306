// How `mneme cluster status` shows a cluster: who leads what, who lags, what is being done, what is wrong.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cmd/cluster_asker.h"
#include "cmd/common.h"

namespace mneme::cmd {

namespace {

constexpr uint64_t kNoticeableLag = 10'000;  // entries
constexpr size_t kShownShards = 40;          // more are not shown at a glance
constexpr size_t kShownTroubles = 20;

std::string text(const Json& json, const char* key) { return json.value(key, std::string()); }

std::string clipped(std::string words, size_t width) {
  if (words.size() > width) words = words.substr(0, width - 3) + "...";
  return words;
}

// A sentence in lines of at most 100 columns.
std::string wrapped(std::string_view sentence) {
  constexpr size_t kColumns = 100;
  std::string out;
  size_t column = 0;
  while (!sentence.empty()) {
    const std::string_view word = sentence.substr(0, sentence.find(' '));
    sentence.remove_prefix(std::min(word.size() + 1, sentence.size()));
    if (column > 0 && column + 1 + word.size() > kColumns) {
      out += "\n   ";
      column = 3;
    }
    if (column > 0) out += ' ';
    out += word;
    column += word.size() + 1;
  }
  return out;
}

std::string name_of_shard(const Json& shard) {
  return shard["group"] == 1 ? "the shard map" : fmt::format("shard {}", shard["group"].get<uint64_t>());
}

// "n1 n2 n3", and "+n4" for a replica that does not vote yet.
std::string replicas_of(const Json& shard, std::string_view separator = " ") {
  std::string out;
  for (const Json& replica : shard["replicas"]) {
    const bool votes = replica["role"] == "voter" || replica["role"] == "outgoing";
    out += fmt::format("{}{}n{}", out.empty() ? "" : separator, votes ? "" : "+", replica["node"].get<uint64_t>());
  }
  return out;
}

bool is_pending(const Json& shard) { return shard.contains("operation") && shard["operation"]["outcome"] == "pending"; }

std::string pending_text(const Json& shard) {
  const Json& operation = shard["operation"];
  return fmt::format("{} ({}, operation {})", text(operation, "action"), text(operation, "step"),
                     operation["id"].get<uint64_t>());
}

uint64_t worst_lag(const Survey& all, const Json& shard) {
  uint64_t worst = 0;
  for (const Json& replica : shard["replicas"]) worst = std::max(worst, all.behind(replica["node"], shard["group"]));
  return worst;
}

struct Held {
  size_t replicas = 0;
  size_t leads = 0;
  uint64_t behind = 0;
};

Held held_by(const Survey& all, uint64_t node) {
  Held held;
  for (const Json& shard : all.map["shards"]) {
    for (const Json& replica : shard["replicas"]) held.replicas += replica["node"] == node;
    const Json* leader = all.leader_of(shard["group"]);
    held.leads += leader && (*leader)["leader"] == node;
    held.behind = std::max(held.behind, all.behind(node, shard["group"]));
  }
  return held;
}

void add_node_troubles(const Survey& all, const Json& node, std::vector<std::string>& out) {
  const uint64_t id = node["id"];
  if (node["state"] == "removed") return;
  const Json& own = all.nodes.at(id);
  if (own.contains("error")) {
    out.push_back(fmt::format("n{} does not answer: {}", id, text(own, "error")));
    return;
  }
  if (node["state"] == "joining") out.push_back(fmt::format("n{} has joined and is not known to run yet", id));
  for (const Json& group : own.value("groups", Json::array()))
    if (group["suspect"])
      out.push_back(fmt::format("n{} lost a part of the log of {} and waits for a leader to restore it", id,
                                name_of_shard(group)));
}

void add_shard_troubles(const Survey& all, const Json& shard, std::vector<std::string>& out) {
  const std::string name = name_of_shard(shard);
  if (!all.leader_of(shard["group"])) {
    out.push_back(fmt::format("nobody leads {}: a majority of {} must be up and reach each other", name,
                              replicas_of(shard, ", ")));
    return;
  }
  size_t voters = 0;
  for (const Json& replica : shard["replicas"]) {
    voters += replica["role"] == "voter";
    const uint64_t behind = all.behind(replica["node"], shard["group"]);
    if (behind >= kNoticeableLag)
      out.push_back(
          fmt::format("n{} is {} entries behind in {}", replica["node"].get<uint64_t>(), grouped(behind), name));
  }
  if (const uint64_t copies = all.map["copies"]; voters < copies && !is_pending(shard))
    out.push_back(fmt::format("{} has {} of {} copies", name, voters, copies));
}

void print_nodes(const Survey& all, const Colors& colors) {
  fmt::print("  {:<6} {:<24} {:<10} {:<10} {:>8} {:>6} {:>12}\n", "node", "address", "rack", "state", "replicas",
             "leads", "behind");
  for (const Json& node : all.map["nodes"]) {
    const uint64_t id = node["id"];
    if (node["state"] == "removed") continue;
    const bool answers = !all.nodes.at(id).contains("error");
    const Held held = held_by(all, id);
    fmt::print("  {:<6} {:<24} {:<10} {}{:<10}{} {:>8} {:>6} {:>12}\n", fmt::format("n{}", id),
               clipped(text(node, "address"), 24), clipped(text(node, "rack"), 10), answers ? "" : colors.red,
               answers ? text(node, "state") : "no answer", answers ? "" : colors.reset, held.replicas, held.leads,
               answers ? grouped(held.behind) : "-");
  }
}

void print_shards(const Survey& all, bool every_shard, const Colors& colors) {
  const bool few = every_shard || all.map["shards"].size() <= kShownShards;
  size_t hidden = 0;
  fmt::print("\n  {:<6} {:<16} {:<7} {:<22} {:>9}  {}\n", "shard", "slots", "leader", "replicas", "behind",
             "under way");
  for (const Json& shard : all.map["shards"]) {
    const Json* leader = all.leader_of(shard["group"]);
    if (!few && leader && !is_pending(shard) && worst_lag(all, shard) < kNoticeableLag) {
      ++hidden;
      continue;
    }
    const std::string slots = shard["group"] == 1 ? "(the map)" : text(shard, "slots");
    const std::string pending = is_pending(shard) ? "  " + clipped(pending_text(shard), 30) : "";
    fmt::print("  {:<6} {:<16} {}{:<7}{} {:<22} {:>9}{}\n", shard["group"].get<uint64_t>(), clipped(slots, 16),
               leader ? "" : colors.red, leader ? fmt::format("n{}", (*leader)["leader"].get<uint64_t>()) : "nobody",
               leader ? "" : colors.reset, clipped(replicas_of(shard), 22),
               leader ? grouped(worst_lag(all, shard)) : "-", pending);
  }
  if (hidden > 0) fmt::print("  and {} of which there is nothing to say; --all lists them\n", grouped(hidden));
}

bool is_plan_of_change(const std::string& sentence) { return !sentence.starts_with("obstacle: "); }

}  // namespace

std::vector<std::string> troubles(const Survey& all) {
  std::vector<std::string> out;
  if (all.map.is_null()) {
    for (const Json& founder : all.asked.value("founders", Json::array()))
      if (!founder["heard"])
        out.push_back(fmt::format("the cluster waits for n{} at {}: start it, with the same --cluster",
                                  founder["node"].get<uint64_t>(), text(founder, "address")));
    if (out.empty()) out.push_back("the node is starting, or its cluster is being formed");
    return out;
  }
  for (const Json& node : all.map["nodes"]) add_node_troubles(all, node, out);
  for (const Json& shard : all.map["shards"]) add_shard_troubles(all, shard, out);
  for (const std::string& sentence : all.plan)
    if (!is_plan_of_change(sentence)) out.push_back(sentence.substr(sentence.find(' ') + 1));
  return out;
}

void print(const Survey& all, bool every_shard) {
  const Colors colors = colors_for(STDOUT_FILENO);
  if (all.map.is_null()) {
    fmt::print("{} does not serve yet\n", text(all.asked, "address"));
  } else {
    const size_t shards = all.map["shards"].size() - 1;
    fmt::print("cluster {}, {} node{}, {} shard{}, {} cop{} of each\n\n", text(all.map, "cluster"), all.nodes.size(),
               all.nodes.size() == 1 ? "" : "s", shards, shards == 1 ? "" : "s", all.map["copies"].get<uint64_t>(),
               all.map["copies"] == 1 ? "y" : "ies");
    print_nodes(all, colors);
    print_shards(all, every_shard, colors);
    const auto changes = std::count_if(all.plan.begin(), all.plan.end(), is_plan_of_change);
    if (changes > 0 && !all.map["balance"])
      fmt::print("\n{} change{} would be worth making: `mneme cluster rebalance --dry-run` lists them\n", changes,
                 changes == 1 ? "" : "s");
  }
  const auto wrong = troubles(all);
  if (!wrong.empty()) fmt::print("\n");
  for (size_t i = 0; i < std::min(wrong.size(), kShownTroubles); ++i)
    fmt::print("{}{}{}\n", colors.yellow, wrapped(wrong[i]), colors.reset);
  if (wrong.size() > kShownTroubles)
    fmt::print("{}and {} more; --json has them all{}\n", colors.yellow, wrong.size() - kShownTroubles, colors.reset);
}

Json to_json(const Survey& all) {
  Json out{{"cluster", text(all.asked, "cluster")}, {"ready", !all.map.is_null()}};
  if (!all.map.is_null()) {
    for (const char* key : {"version", "copies", "balance"}) out[key] = all.map[key];
    out["nodes"] = Json::array();
    for (const Json& node : all.map["nodes"]) {
      Json& shown = out["nodes"].emplace_back(node);
      const auto own = all.nodes.find(node["id"]);
      if (own == all.nodes.end()) continue;
      const Held held = held_by(all, node["id"]);
      shown["answers"] = !own->second.contains("error");
      if (own->second.contains("error")) shown["error"] = own->second["error"];
      shown["replicas"] = held.replicas;
      shown["leads"] = held.leads;
      shown["behind"] = held.behind;
    }
    out["shards"] = Json::array();
    for (const Json& shard : all.map["shards"]) {
      Json& shown = out["shards"].emplace_back(shard);
      const Json* leader = all.leader_of(shard["group"]);
      shown["leader"] = leader ? (*leader)["leader"].get<uint64_t>() : 0;
      shown["behind"] = worst_lag(all, shard);
    }
    out["plan"] = all.plan;
  }
  out["wrong"] = troubles(all);
  return out;
}

}  // namespace mneme::cmd
