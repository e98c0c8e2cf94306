// The rules of what a power loss may leave, as sim/file_content.h and sim/disk_tree.h state them, once more: as a graph
// of operations with what each needs, every legal state of which is found by trying all its parts.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace mneme::sim::testing {

// Files are written, cut and compared in units of half a sector, each of one letter; '.' is zeros.
inline constexpr uint64_t kUnit = 256;
inline constexpr uint64_t kUnitsPerSector = 2;
inline constexpr uint64_t kUnitsPerPage = 16;

struct Step {
  enum Kind { kMake, kMakeDir, kWrite, kTruncate, kRename, kRemove, kSync, kSyncDir };
  Kind kind;
  std::string path;
  std::string to{};    // kRename
  uint64_t begin = 0;  // kWrite, in units
  uint64_t count = 0;  // kWrite, and the size of kTruncate
  char letter = '?';
};

namespace op {
inline Step make(std::string path) { return {Step::kMake, std::move(path)}; }
inline Step make_dir(std::string path) { return {Step::kMakeDir, std::move(path)}; }
inline Step write(std::string path, uint64_t begin, uint64_t count, char letter) {
  return {Step::kWrite, std::move(path), "", begin, count, letter};
}
inline Step truncate(std::string path, uint64_t size) { return {Step::kTruncate, std::move(path), "", 0, size}; }
inline Step rename(std::string from, std::string to) { return {Step::kRename, std::move(from), std::move(to)}; }
inline Step remove(std::string path) { return {Step::kRemove, std::move(path)}; }
inline Step sync(std::string path) { return {Step::kSync, std::move(path)}; }
inline Step sync_dir(std::string path) { return {Step::kSyncDir, std::move(path)}; }
}  // namespace op

inline std::string text(const Step& step) {
  static const char* const names[] = {"make", "make_dir", "write", "truncate", "rename", "remove", "sync", "sync_dir"};
  return fmt::format("{} {} {} {}+{} {}", names[step.kind], step.path, step.to, step.begin, step.count, step.letter);
}

// Paths with what they hold, as one line.
using Listing = std::map<std::string, std::string>;

inline std::string text(const Listing& listing) {
  std::string line;
  for (auto& [path, content] : listing) line += path + content + ' ';
  return line;
}

class Rules {
 public:
  Rules() { inodes_.push_back({.directory = true}); }

  void take(const Step& step) {
    ++steps_;
    switch (step.kind) {
      case Step::kMake:
      case Step::kMakeDir: {
        const Name name = name_of(step.path);
        inodes_.push_back({.directory = step.kind == Step::kMakeDir});
        change({{name, inodes_.size() - 1}}).made = step.kind == Step::kMakeDir ? inodes_.size() - 1 : kNone;
        break;
      }
      case Step::kWrite: write(inode_of(step.path), step); break;
      case Step::kTruncate: truncate(inode_of(step.path), step.count); break;
      case Step::kRename: rename(name_of(step.path), name_of(step.to)); break;
      case Step::kRemove: remove(name_of(step.path)); break;
      case Step::kSync: sync(step.path, steps_); break;
      case Step::kSyncDir: {
        const size_t directory = inode_of(step.path);
        for (size_t i = 0; i < nodes_.size(); ++i)
          if (std::any_of(nodes_[i].entries.begin(), nodes_[i].entries.end(),
                          [&](const Entry& e) { return e.first.first == directory; }))
            make_durable(i);
        break;
      }
    }
  }

  // What was done to the file in the first so many steps becomes durable.
  void sync(const std::string& path, size_t steps) {
    for (Node& node : nodes_)
      if (node.file == inode_of(path) && node.step <= steps) node.durable = true;
  }
  size_t steps() const { return steps_; }

  bool exists(const std::string& path) const { return inode_at(path) != kNone; }
  bool is_directory(const std::string& path) const { return exists(path) && inodes_[inode_at(path)].directory; }
  bool is_empty_directory(const std::string& path) const {
    return is_directory(path) && std::none_of(names_.begin(), names_.end(),
                                              [&](const auto& entry) { return entry.first.first == inode_at(path); });
  }
  uint64_t size(const std::string& path) const { return inodes_[inode_at(path)].size; }
  size_t pending() const {
    return static_cast<size_t>(std::count_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return !n.durable; }));
  }
  Listing cached() const { return effect(std::vector<bool>(nodes_.size(), true)); }

  std::set<std::string> legal_states() const {
    std::set<std::string> states;
    std::vector<bool> held(nodes_.size());
    std::vector<std::set<size_t>> needed;
    for (size_t i = 0; i < nodes_.size(); ++i) needed.push_back(nodes_[i].durable ? std::set<size_t>() : needs(i));
    add_states(needed, held, 0, states);
    return states;
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  using Name = std::pair<size_t, std::string>;
  using Entry = std::pair<Name, size_t>;  // from now on
  using Sector = std::string;
  struct Inode {
    bool directory = false;
    uint64_t size = 0;
    std::map<uint64_t, Sector> sectors{};
  };
  struct Node {
    std::set<size_t> needs{};
    bool durable = false;
    size_t step = 0;
    size_t file = kNone;
    std::optional<uint64_t> size{};  // from now on
    bool cuts = false;               // what is behind it
    uint64_t sector = 0;
    std::optional<Sector> content{};
    std::vector<Entry> entries{};
    size_t made = kNone;
    size_t removed = kNone;
    size_t moved_to = kNone;
    bool moves_directory = false;
  };

  static void apply(const Node& node, std::vector<Inode>& inodes, std::map<Name, size_t>& names) {
    if (node.content) inodes[node.file].sectors[node.sector] = *node.content;
    if (node.size) inodes[node.file].size = *node.size;
    if (node.cuts)
      for (auto& [sector, content] : inodes[node.file].sectors)
        for (uint64_t i = 0; i < kUnitsPerSector; ++i)
          if (sector * kUnitsPerSector + i >= *node.size) content[i] = '.';
    for (auto& [name, inode] : node.entries) {
      if (inode == kNone)
        names.erase(name);
      else
        names[name] = inode;
    }
  }

  Node& add(Node node) {
    node.step = steps_;
    apply(node, inodes_, names_);
    nodes_.push_back(std::move(node));
    return nodes_.back();
  }

  void write(size_t file, const Step& step) {
    const uint64_t old_size = inodes_[file].size;
    const uint64_t end = step.begin + step.count;
    for (uint64_t sector = step.begin / kUnitsPerSector; sector * kUnitsPerSector < end; ++sector) {
      auto known = inodes_[file].sectors.find(sector);
      Sector content = known == inodes_[file].sectors.end() ? Sector(kUnitsPerSector, '.') : known->second;
      for (uint64_t i = 0; i < kUnitsPerSector; ++i)
        if (const uint64_t unit = sector * kUnitsPerSector + i; step.begin <= unit && unit < end)
          content[i] = step.letter;
      Node node{.file = file, .sector = sector, .content = content};
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (nodes_[i].file != file) continue;
        if (nodes_[i].content && nodes_[i].sector == sector) node.needs.insert(i);
        if (nodes_[i].cuts && *nodes_[i].size <= sector * kUnitsPerSector) node.needs.insert(i);
      }
      add(node);
    }
    for (uint64_t page = kUnitsPerPage; page < end; page += kUnitsPerPage)
      if (page > std::max(old_size, step.begin)) change_size(file, page, false);
    if (end > old_size) change_size(file, end, false);
  }
  void truncate(size_t file, uint64_t size) {
    if (size != inodes_[file].size) change_size(file, size, size < inodes_[file].size);
  }
  void change_size(size_t file, uint64_t size, bool cuts) {
    Node node{.file = file, .size = size, .cuts = cuts};
    for (size_t i = 0; i < nodes_.size(); ++i)
      if (nodes_[i].file == file && nodes_[i].size) node.needs.insert(i);
    add(node);
  }

  Node& change(std::vector<Entry> entries) {
    Node node{.entries = std::move(entries)};
    for (size_t i = 0; i < nodes_.size(); ++i)
      for (auto& [name, inode] : node.entries)
        for (auto& [its, its_inode] : nodes_[i].entries)
          if (name == its) node.needs.insert(i);
    return add(std::move(node));
  }
  void rename(const Name& from, const Name& to) {
    const size_t inode = names_.at(from);
    Node& node = change({{from, kNone}, {to, inode}});
    if (from.first == to.first) return;
    node.moves_directory = inodes_[inode].directory;
    for (size_t i = 0; i + 1 < nodes_.size(); ++i)
      if (node.moves_directory && nodes_[i].moves_directory) node.needs.insert(i);
    node.moved_to = to.first;
  }
  void remove(const Name& name) {
    const size_t inode = names_.at(name);
    Node& node = change({{name, kNone}});
    if (!inodes_[inode].directory) return;
    for (size_t i = 0; i + 1 < nodes_.size(); ++i)
      for (auto& [its, its_inode] : nodes_[i].entries)
        if (its.first == inode) node.needs.insert(i);
  }
  // Those of the directories above, as they lie on the disk now, included.
  std::set<size_t> needs(size_t i) const {
    std::set<size_t> all = nodes_[i].needs;
    std::map<Name, size_t> durable_names;
    std::vector<Inode> ignored(inodes_.size());
    for (const Node& node : nodes_)
      if (node.durable) apply(node, ignored, durable_names);
    for (size_t above = nodes_[i].moved_to; above != kNone && above != 0;) {
      const auto maker =
          std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& other) { return other.made == above; });
      if (maker->durable) {
        above = std::ranges::find(durable_names, above, &std::pair<const Name, size_t>::second)->first.first;
      } else {
        all.insert(static_cast<size_t>(maker - nodes_.begin()));
        above = maker->entries[0].first.first;
      }
    }
    return all;
  }
  void make_durable(size_t i) {
    const std::set<size_t> needed = needs(i);
    nodes_[i].durable = true;
    for (size_t n : needed)
      if (!nodes_[n].durable) make_durable(n);
  }

  void add_states(const std::vector<std::set<size_t>>& needed, std::vector<bool>& held, size_t i,
                  std::set<std::string>& states) const {
    if (i == nodes_.size()) {
      states.insert(text(effect(held)));
      return;
    }
    const Node& node = nodes_[i];
    if (!node.durable) {
      held[i] = false;
      add_states(needed, held, i + 1, states);
    }
    if (!std::ranges::all_of(needed[i], [&](size_t n) { return held[n]; })) return;
    held[i] = true;
    add_states(needed, held, i + 1, states);
  }

  Listing effect(const std::vector<bool>& held) const {
    std::vector<Inode> inodes(inodes_.size());
    for (size_t i = 0; i < inodes_.size(); ++i) inodes[i].directory = inodes_[i].directory;
    std::map<Name, size_t> names;
    for (size_t i = 0; i < nodes_.size(); ++i)
      if (held[i]) apply(nodes_[i], inodes, names);
    Listing listing;
    list(0, "", inodes, names, listing);
    return listing;
  }
  static void list(size_t directory, const std::string& path, const std::vector<Inode>& inodes,
                   const std::map<Name, size_t>& names, Listing& listing) {
    for (auto at = names.lower_bound({directory, ""}); at != names.end() && at->first.first == directory; ++at) {
      const Inode& inode = inodes[at->second];
      const std::string below = path + at->first.second;
      if (inode.directory) {
        listing[below] = "/";
        list(at->second, below + "/", inodes, names, listing);
        continue;
      }
      std::string content(inode.size, '.');
      for (auto& [sector, held] : inode.sectors)
        for (uint64_t i = 0; i < kUnitsPerSector; ++i)
          if (sector * kUnitsPerSector + i < inode.size) content[sector * kUnitsPerSector + i] = held[i];
      listing[below] = "=" + content;
    }
  }

  Name name_of(const std::string& path) const {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? Name(0, path) : Name(inode_of(path.substr(0, slash)), path.substr(slash + 1));
  }
  size_t inode_at(const std::string& path) const {
    if (path.empty()) return 0;
    const size_t slash = path.rfind('/');
    const size_t directory = slash == std::string::npos ? 0 : inode_at(path.substr(0, slash));
    auto found = names_.find({directory, path.substr(slash == std::string::npos ? 0 : slash + 1)});
    return directory == kNone || found == names_.end() ? kNone : found->second;
  }
  size_t inode_of(const std::string& path) const { return inode_at(path); }

  std::vector<Inode> inodes_;
  std::map<Name, size_t> names_;
  std::vector<Node> nodes_;
  size_t steps_ = 0;
};

}  // namespace mneme::sim::testing
