#include "sim/disk_tree.h"

#include <algorithm>
#include <string_view>

#include "core/base/check.h"

namespace mneme::sim {

namespace {

using Listing = std::vector<std::pair<std::string, std::shared_ptr<Inode>>>;

void list_below(const Inode& directory, const std::string& path, Inode::Entries Inode::*entries, Listing& listing) {
  for (auto& [name, inode] : directory.*entries) {
    std::string below = path.empty() ? name : path + '/' + name;
    listing.emplace_back(below, inode);
    if (inode->directory) list_below(*inode, below, entries, listing);
  }
}

Listing list_all(const Inode& root, Inode::Entries Inode::*entries) {
  Listing listing;
  list_below(root, "", entries, listing);
  std::sort(listing.begin(), listing.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return listing;
}

std::shared_ptr<Inode> copy_durable(const Inode& from) {
  auto copy = std::make_shared<Inode>();
  copy->number = from.number;
  copy->directory = from.directory;
  copy->content = FileContent(from.content.durable());
  for (auto& [name, inode] : from.durable_entries) {
    auto below = copy_durable(*inode);
    below->durable_parent = copy;
    copy->durable_entries[name] = std::move(below);
  }
  copy->entries = copy->durable_entries;
  return copy;
}

}  // namespace

DiskTree::DiskTree() : root_(std::make_shared<Inode>()) { root_->directory = true; }

std::shared_ptr<Inode> DiskTree::find(const std::string& path) const {
  return path.empty() ? root_ : place(path).inode;
}

DiskTree::Place DiskTree::place(const std::string& path) const {
  Place at{root_, "", nullptr};
  for (size_t begin = 0;;) {
    const size_t end = std::min(path.find('/', begin), path.size());
    at.name = path.substr(begin, end - begin);
    if (auto found = at.directory->entries.find(at.name); found != at.directory->entries.end())
      at.inode = found->second;
    if (end == path.size()) return at;
    if (!at.inode || !at.inode->directory) return {};
    at.directory = std::move(at.inode);
    at.inode = nullptr;
    begin = end + 1;
  }
}

void DiskTree::apply(Change change) {
  for (auto& [directory, name, inode] : change.entries) {
    if (inode)
      directory->entries[name] = inode;
    else
      directory->entries.erase(name);
  }
  changes_.push_back(std::move(change));
}

std::shared_ptr<Inode> DiskTree::make(const Place& at, bool directory) {
  CHECK(at.directory && !at.inode);
  auto inode = std::make_shared<Inode>();
  inode->number = ++inodes_;
  inode->directory = directory;
  apply({.entries = {{at.directory, at.name, inode}}, .made = directory ? inode : nullptr});
  return inode;
}

void DiskTree::remove(const Place& what) {
  CHECK(what.inode && what.inode->entries.empty());
  apply({.entries = {{what.directory, what.name, nullptr}}, .removed = what.inode->directory ? what.inode : nullptr});
}

void DiskTree::rename(const Place& from, const Place& to) {
  CHECK(from.inode && to.directory);
  CHECK(!to.inode || (!from.inode->directory && !to.inode->directory));
  const bool moves = from.directory != to.directory;
  apply({.entries = {{from.directory, from.name, nullptr}, {to.directory, to.name, from.inode}},
         .moved_to = moves ? to.directory : nullptr,
         .moves_directory = moves && from.inode->directory});
}

void DiskTree::hold(const Change& change) {
  for (auto& [directory, name, inode] : change.entries) {
    if (!inode) {
      directory->durable_entries.erase(name);
      continue;
    }
    directory->durable_entries[name] = inode;
    inode->durable_parent = directory;
  }
}

bool DiskTree::needs(const Change& change, const Change& earlier) const {
  for (const Change::Entry& its : earlier.entries) {
    if (its.directory == change.removed) return true;
    for (const Change::Entry& entry : change.entries)
      if (entry.directory == its.directory && entry.name == its.name) return true;
  }
  return change.moves_directory && earlier.moves_directory;
}

void DiskTree::add_needed(size_t change, std::vector<bool>& held) const {
  for (size_t j = 0; j < change; ++j)
    if (needs(changes_[change], changes_[j])) held[j] = true;
  for (std::shared_ptr<Inode> above = changes_[change].moved_to; above;) {
    const auto maker = std::find_if(changes_.begin(), changes_.end(), [&](const Change& c) { return c.made == above; });
    if (maker == changes_.end()) {
      above = above->durable_parent.lock();
    } else {
      held[static_cast<size_t>(maker - changes_.begin())] = true;
      above = maker->entries[0].directory;
    }
  }
}

void DiskTree::sync(const Inode& directory) {
  std::vector<bool> held(changes_.size());
  for (size_t i = changes_.size(); i-- > 0;) {
    for (const Change::Entry& entry : changes_[i].entries) held[i] = held[i] || entry.directory.get() == &directory;
    if (held[i]) add_needed(i, held);
  }
  size_t kept = 0;
  for (size_t i = 0; i < changes_.size(); ++i) {
    if (held[i])
      hold(changes_[i]);
    else if (kept++ != i)
      changes_[kept - 1] = std::move(changes_[i]);
  }
  changes_.resize(kept);
}

void DiskTree::lose_unsynced(const std::function<bool(size_t change)>& holds) {
  std::vector<bool> held(changes_.size());
  for (size_t i = changes_.size(); i-- > 0;) {
    held[i] = held[i] || holds(i);
    if (held[i]) add_needed(i, held);
  }
  for (size_t i = 0; i < changes_.size(); ++i)
    if (held[i]) hold(changes_[i]);
  changes_.clear();
  root_->entries = root_->durable_entries;
  for (auto& [path, inode] : durable()) inode->entries = inode->durable_entries;
}

std::vector<std::pair<std::string, std::shared_ptr<Inode>>> DiskTree::durable() const {
  return list_all(*root_, &Inode::durable_entries);
}

std::vector<std::pair<std::string, std::shared_ptr<Inode>>> DiskTree::cached() const {
  return list_all(*root_, &Inode::entries);
}

DiskTree DiskTree::copy_of_durable() const {
  DiskTree copy;
  copy.root_ = copy_durable(*root_);
  return copy;
}

void DiskTree::become(const DiskTree& other) {
  root_ = copy_durable(*other.root_);
  changes_.clear();
}

}  // namespace mneme::sim
