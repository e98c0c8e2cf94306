// The directories and files of a simulated disk: the entries that processes see, those that are durable, and the
// changes between the two.
//
// The changes since the last syncs form a graph as the operations on a file do (file_content.h): what a power loss
// leaves is any part of them that has with every change those that it needs. One needs the earlier ones
//   - of the same name in the same directory;
//   - that made the directory it moves something to, the one that this lies in on the disk or was made in, and so on
//     upwards: what is moved is never lost on the way;
//   - in a directory that it removes;
//   - that moved directories to other ones, if it does: no directory ever comes to lie below itself.
// Otherwise they hold in any order, as in file systems without a journal; one with a journal keeps all in their order,
// and what it leaves is among these states. A rename holds as a whole. A sync of a directory makes the changes of its
// own entries durable, with what they need: not its own entry in the directory above, nor what a file contains.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/file_content.h"

namespace mneme::sim {

struct Inode {
  using Entries = std::map<std::string, std::shared_ptr<Inode>>;

  uint64_t number = 0;
  bool directory = false;
  Entries entries;                      // of a directory
  Entries durable_entries;              // what a power loss leaves, but for the choices made then
  std::weak_ptr<Inode> durable_parent;  // where a directory lies on the disk, if it does
  FileContent content;                  // of a file
  uint64_t locked_by_boot = 0;
};

class DiskTree {
 public:
  // Paths are those of env::Disk; the root is "".
  struct Place {
    std::shared_ptr<Inode> directory;  // nullptr: there is none of that name
    std::string name;
    std::shared_ptr<Inode> inode;  // nullptr: the name is free
  };

  DiskTree();

  std::shared_ptr<Inode> find(const std::string& path) const;  // nullptr: no such file or directory
  // Where the path's last part is, or would be. Not for the root.
  Place place(const std::string& path) const;

  // At a free name.
  std::shared_ptr<Inode> make(const Place& at, bool directory);
  // A file, or a directory without entries.
  void remove(const Place& what);
  // `to` is free, or both are files. Not into itself.
  void rename(const Place& from, const Place& to);

  void sync(const Inode& directory);
  // holds(i) is called for the changes, latest first, that no later one needs, and says whether the ith holds.
  void lose_unsynced(const std::function<bool(size_t change)>& holds);

  // Everything that a power loss leaves for sure, with `cached` what processes see, by path, the root left out.
  std::vector<std::pair<std::string, std::shared_ptr<Inode>>> durable() const;
  std::vector<std::pair<std::string, std::shared_ptr<Inode>>> cached() const;
  // A tree of its own with the durable part of this one, all of it durable.
  DiskTree copy_of_durable() const;
  // Takes over the durable part of another in place of its own. Inodes go on being numbered as before.
  void become(const DiskTree& other);

 private:
  // A change of one or two entries.
  struct Change {
    struct Entry {
      std::shared_ptr<Inode> directory;
      std::string name;
      std::shared_ptr<Inode> inode;  // from now on; nullptr: none
    };
    std::vector<Entry> entries;         // of a rename, the old one first
    std::shared_ptr<Inode> made{};      // the directory that it makes
    std::shared_ptr<Inode> removed{};   // the one that it removes
    std::shared_ptr<Inode> moved_to{};  // where it moves something, when that is another directory than before
    bool moves_directory = false;       // to there
  };

  void apply(Change change);
  void hold(const Change& change);
  bool needs(const Change& change, const Change& earlier) const;
  void add_needed(size_t change, std::vector<bool>& held) const;

  std::shared_ptr<Inode> root_;
  std::vector<Change> changes_;
  uint64_t inodes_ = 0;
};

}  // namespace mneme::sim
