// The contract of env::Disk and File. Include it last.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "tests/contract/world.h"
#include "tests/test.h"

namespace mneme::contract {

// Runs fn(env), which returns Result<void>, and expects success.
template <class World, class F>
void on_disk(World& world, F&& fn) {
  world.run([&] {
    Result<void> result = fn(world.here());
    CHECK((result ? "" : result.error().message) == "");
  });
}

inline Result<Bytes> read_at(env::File& file, uint64_t offset, size_t size) {
  Bytes bytes(size);
  bytes.resize(TRY(env::read_up_to(file, offset, bytes)));
  return bytes;
}

inline Result<void> make_file(env::Disk& disk, const std::string& path, ByteView data) {
  auto file = TRY(disk.open(path, env::OpenMode::kCreate));
  return file->write(0, data);
}

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

template <class World>
void open_modes(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    CHECK(is(disk.open("file", env::OpenMode::kRead), ErrorCode::kNotFound));
    CHECK(is(disk.open("file", env::OpenMode::kReadWrite), ErrorCode::kNotFound));
    CHECK(is(disk.open("missing/file", env::OpenMode::kCreate), ErrorCode::kNotFound));
    {
      auto file = TRY(disk.open("file", env::OpenMode::kCreate));
      CHECK(TRY(file->size()) == 0);
      TRY(file->write(0, as_bytes("abc")));
      CHECK(TRY(read_at(*file, 0, 9)) == bytes_of("abc"));
    }
    CHECK(is(disk.open("file", env::OpenMode::kCreate), ErrorCode::kExists));
    {
      auto file = TRY(disk.open("file", env::OpenMode::kRead));
      CHECK(TRY(read_at(*file, 1, 9)) == bytes_of("bc"));
      CHECK(is(file->write(0, as_bytes("x")), ErrorCode::kInvalid));
      CHECK(is(file->write_and_sync(0, as_bytes("x")), ErrorCode::kInvalid));
      CHECK(is(file->truncate(0), ErrorCode::kInvalid));
    }
    {
      auto file = TRY(disk.open("file", env::OpenMode::kReadWrite));
      TRY(file->write(1, as_bytes("XY")));
      CHECK(TRY(read_at(*file, 0, 9)) == bytes_of("aXY"));
    }
    TRY(disk.make_dir("directory"));
    CHECK_FALSE(disk.open("directory", env::OpenMode::kRead).has_value());
    CHECK_FALSE(disk.open("directory", env::OpenMode::kReadWrite).has_value());
    CHECK(is(disk.open("directory", env::OpenMode::kCreate), ErrorCode::kExists));
    auto missing = disk.open("some/where", env::OpenMode::kRead);
    CHECK(is(missing, ErrorCode::kNotFound));
    if (!missing) CHECK(missing.error().message.find("some/where") != std::string::npos);
    return {};
  });
}

template <class World>
void strange_paths(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    TRY(disk.make_dir("d"));
    for (std::string path : {"", "..", ".", "/etc/hostname", "d/../file", "d//file", "./file", "d/", "d/..", "../x"}) {
      CAPTURE(path);
      CHECK(is(disk.open(path, env::OpenMode::kCreate), ErrorCode::kInvalid));
      CHECK(is(disk.make_dir(path), ErrorCode::kInvalid));
      CHECK(is(disk.remove(path), ErrorCode::kInvalid));
      CHECK(is(disk.rename(path, "y"), ErrorCode::kInvalid));
      CHECK(is(disk.rename("d", path), ErrorCode::kInvalid));
      if (path.empty()) continue;  // as a directory it is the root
      CHECK(is(disk.list(path), ErrorCode::kInvalid));
      CHECK(is(disk.sync_dir(path), ErrorCode::kInvalid));
      CHECK(is(disk.lock(path), ErrorCode::kInvalid));
    }
    CHECK(is(disk.open(std::string("a\0b", 3), env::OpenMode::kCreate), ErrorCode::kInvalid));
    CHECK(is(disk.open(std::string(256, 'x'), env::OpenMode::kCreate), ErrorCode::kInvalid));
    CHECK(TRY(disk.list("")) == std::vector<std::string>{"d"});
    return {};
  });
}

template <class World>
void reading_beyond_the_end(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    auto file = TRY(env.disk.open("file", env::OpenMode::kCreate));
    Bytes buffer(100, 7);
    CHECK(TRY(file->read(0, buffer)) == 0);
    TRY(file->write(0, content(1, 50)));
    CHECK(TRY(read_at(*file, 20, 100)) == content(1, 30, 20));
    CHECK(TRY(file->read(50, buffer)) == 0);
    CHECK(TRY(file->read(1'000'000, buffer)) == 0);
    CHECK(TRY(file->read(std::numeric_limits<uint64_t>::max() - 5, buffer)) == 0);
    CHECK(is(env::read_exactly(*file, 0, buffer), ErrorCode::kCorrupt));
    CHECK(TRY(file->size()) == 50);
    return {};
  });
}

template <class World>
void growing_and_shrinking(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    auto file = TRY(env.disk.open("file", env::OpenMode::kCreate));
    TRY(file->write(10'000, as_bytes("end")));
    CHECK(TRY(file->size()) == 10'003);
    Bytes wanted(10'000);
    Bytes end = bytes_of("end");
    wanted.insert(wanted.end(), end.begin(), end.end());
    CHECK(TRY(read_at(*file, 0, 20'000)) == wanted);
    TRY(file->truncate(10'001));
    TRY(file->truncate(10'003));
    wanted.resize(10'001);
    wanted.resize(10'003);
    CHECK(TRY(read_at(*file, 0, 20'000)) == wanted);
    TRY(file->truncate(0));
    CHECK(TRY(file->size()) == 0);
    CHECK(TRY(read_at(*file, 0, 10)).empty());
    TRY(file->truncate(3'000));
    CHECK(TRY(read_at(*file, 0, 4'000)) == Bytes(3'000));
    constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max() - 1;
    CHECK(is(file->write(kHuge, as_bytes("abc")), ErrorCode::kTooLarge));
    CHECK(is(file->write_and_sync(kHuge, as_bytes("abc")), ErrorCode::kTooLarge));
    CHECK(is(file->truncate(kHuge), ErrorCode::kTooLarge));
    return {};
  });
}

template <class World>
void syncing(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    auto file = TRY(env.disk.open("file", env::OpenMode::kCreate));
    TRY(file->sync());
    TRY(file->write_and_sync(0, content(1, 5'000)));
    CHECK(TRY(read_at(*file, 0, 9'000)) == content(1, 5'000));
    TRY(file->write(6'000, as_bytes("unsynced")));
    TRY(file->write_and_sync(1'000, as_bytes("over")));
    TRY(file->write_and_sync(0, {}));
    CHECK(TRY(read_at(*file, 1'000, 6)) == [] {
      Bytes both = content(1, 6, 1'000);
      std::ranges::copy(as_bytes("over"), both.begin());
      return both;
    }());
    CHECK(TRY(read_at(*file, 6'000, 99)) == bytes_of("unsynced"));
    TRY(file->sync());
    TRY(env.disk.sync_dir(""));
    CHECK(is(env.disk.sync_dir("missing"), ErrorCode::kNotFound));
    // A group commit larger than any single transfer.
    constexpr size_t kLarge = 5 << 20;
    TRY(file->write_and_sync(123, content(2, kLarge)));
    CHECK(TRY(read_at(*file, 123, kLarge)) == content(2, kLarge));
    return {};
  });
}

template <class World>
void directories(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    CHECK(TRY(disk.list("")).empty());
    TRY(disk.make_dir("d"));
    TRY(disk.make_dir("d"));
    CHECK(is(disk.make_dir("x/y"), ErrorCode::kNotFound));
    TRY(disk.make_dir("d/sub"));
    for (std::string name : {"10", "9", "b", "B", "a.tmp", "a", "\xc3\xa9"}) TRY(make_file(disk, "d/" + name, {}));
    CHECK(TRY(disk.list("d")) == std::vector<std::string>{"10", "9", "B", "a", "a.tmp", "b", "sub", "\xc3\xa9"});
    CHECK(TRY(disk.list("d/sub")).empty());
    CHECK(TRY(disk.list("")) == std::vector<std::string>{"d"});
    CHECK(is(disk.list("missing"), ErrorCode::kNotFound));
    CHECK(is(disk.list("d/a"), ErrorCode::kNotFound));
    CHECK(is(disk.make_dir("d/a"), ErrorCode::kExists));
    CHECK(is(disk.open("d/a/x", env::OpenMode::kRead), ErrorCode::kNotFound));
    TRY(disk.sync_dir("d/sub"));
    return {};
  });
}

template <class World>
void renaming_and_removing(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    TRY(disk.make_dir("d"));
    TRY(make_file(disk, "a", as_bytes("new")));
    TRY(make_file(disk, "b", as_bytes("old and longer")));
    TRY(disk.rename("a", "b"));
    CHECK(TRY(disk.list("")) == std::vector<std::string>{"b", "d"});
    CHECK(TRY(env::read_file(disk, "b", 100)) == bytes_of("new"));
    TRY(disk.rename("b", "d/c"));
    CHECK(TRY(disk.list("d")) == std::vector<std::string>{"c"});
    CHECK(is(disk.rename("b", "e"), ErrorCode::kNotFound));
    CHECK(is(disk.rename("d/c", "missing/c"), ErrorCode::kNotFound));
    CHECK(is(disk.remove("b"), ErrorCode::kNotFound));
    CHECK(is(disk.remove("d"), ErrorCode::kExists));
    // Only a file replaces a file.
    TRY(disk.make_dir("empty"));
    TRY(make_file(disk, "file", {}));
    CHECK(is(disk.rename("d", "empty"), ErrorCode::kExists));
    CHECK(is(disk.rename("d", "file"), ErrorCode::kExists));
    CHECK(is(disk.rename("file", "empty"), ErrorCode::kExists));
    CHECK(is(disk.rename("d/c", "d"), ErrorCode::kExists));
    CHECK(is(disk.rename("d", "d/below"), ErrorCode::kInvalid));
    TRY(disk.rename("d", "d"));
    TRY(disk.remove("empty"));
    TRY(disk.remove("file"));
    TRY(disk.rename("d", "moved"));
    CHECK(TRY(env::read_file(disk, "moved/c", 100)) == bytes_of("new"));
    TRY(disk.remove("moved/c"));
    TRY(disk.remove("moved"));
    CHECK(TRY(disk.list("")).empty());
    // What is open stays readable, as segments do that a checkpoint frees while a snapshot reads them.
    TRY(make_file(disk, "open", as_bytes("still here")));
    auto file = TRY(disk.open("open", env::OpenMode::kRead));
    TRY(disk.remove("open"));
    CHECK(TRY(read_at(*file, 0, 100)) == bytes_of("still here"));
    return {};
  });
}

template <class World>
void locking(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    TRY(disk.make_dir("d"));
    TRY(disk.make_dir("e"));
    {
      auto lock = TRY(disk.lock("d"));
      CHECK(TRY(disk.list("d")).empty());
      auto second = disk.lock("d");
      CHECK(is(second, ErrorCode::kBusy));
      auto other = TRY(disk.lock("e"));
    }
    auto again = TRY(disk.lock("d"));
    CHECK(is(disk.lock("missing"), ErrorCode::kNotFound));
    CHECK(is(disk.remove("d"), ErrorCode::kBusy));
    TRY(disk.rename("d", "moved"));
    CHECK(is(disk.lock("moved"), ErrorCode::kBusy));
    TRY(make_file(disk, "moved/file", {}));
    again.reset();
    CHECK(is(disk.remove("moved"), ErrorCode::kExists));
    TRY(disk.remove("moved/file"));
    TRY(disk.remove("moved"));
    TRY(disk.remove("e"));
    return {};
  });
}

template <class World>
void replacing(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    env::Disk& disk = env.disk;
    TRY(disk.make_dir("d"));
    TRY(make_file(disk, "d/state.tmp", as_bytes("left over by a crash, and long")));
    TRY(env::replace_file(disk, "d", "state", as_bytes("one")));
    CHECK(TRY(env::read_file(disk, "d/state", 100)) == bytes_of("one"));
    TRY(env::replace_file(disk, "d", "state", as_bytes("2")));
    CHECK(TRY(env::read_file(disk, "d/state", 100)) == bytes_of("2"));
    CHECK(TRY(disk.list("d")) == std::vector<std::string>{"state"});
    TRY(env::replace_file(disk, "", "top", content(1, 3'000)));
    CHECK(TRY(env::read_file(disk, "top", 3'000)) == content(1, 3'000));
    CHECK(is(env::read_file(disk, "top", 2'999), ErrorCode::kTooLarge));
    return {};
  });
}

template <class World>
void many_fibers(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    constexpr size_t kFibers = 24;
    constexpr size_t kPieces = 30;
    constexpr size_t kPieceBytes = 700;
    TRY(fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      for (size_t i = 0; i < kFibers; ++i)
        scope.spawn("writer", [&env, i]() -> Result<void> {
          auto file = TRY(env.disk.open(fmt::format("f{}", i), env::OpenMode::kCreate));
          for (size_t piece = 0; piece < kPieces; ++piece) {
            const size_t at = piece * kPieceBytes;
            const Bytes data = content(i, kPieceBytes, at);
            TRY(piece % 10 == 9 ? file->write_and_sync(at, data) : file->write(at, data));
          }
          return {};
        });
    }));
    for (size_t i = 0; i < kFibers; ++i)
      CHECK(TRY(env::read_file(env.disk, fmt::format("f{}", i), 1 << 20)) == content(i, kPieces * kPieceBytes));
    return {};
  });
}

template <class World>
void reading_while_writing(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    constexpr size_t kSize = 1 << 20;
    auto file = TRY(env.disk.open("file", env::OpenMode::kCreate));
    TRY(file->write(0, content(1, kSize)));
    bool writing = true;
    size_t reads = 0;
    TRY(fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("writer", [&]() -> Result<void> {
        for (int i = 0; i < 5; ++i) TRY(file->write_and_sync(kSize, content(2, kSize)));
        writing = false;
        return {};
      });
      for (uint64_t reader = 0; reader < 3; ++reader)
        scope.spawn("reader", [&, reader]() -> Result<void> {
          Numbers numbers(reader);
          do {
            const size_t at = numbers.below(kSize - 500);
            Bytes buffer(500);
            TRY(env::read_exactly(*file, at, buffer));
            if (buffer != content(1, 500, at)) return fail(ErrorCode::kCorrupt, "a reader saw wrong bytes");
            ++reads;
          } while (writing);
          return {};
        });
    }));
    CHECK(reads >= 3);
    CHECK(TRY(read_at(*file, kSize, kSize + 1)) == content(2, kSize));
    return {};
  });
}

// Does what the disk does, in memory, and compares as it goes.
class ModelledDisk {
 public:
  ModelledDisk(Env& env, uint64_t seed) : disk_(env.disk), numbers_(seed) { directories_.insert(""); }

  Result<void> step() {
    switch (numbers_.below(10)) {
      case 0: return create();
      case 1: return change_name();
      case 2: return remove();
      case 3: return make_dir();
      case 4: return truncate();
      case 5: return list();
      case 6: return read_all();
      default: return write();
    }
  }

  Result<void> compare_all() {
    for (const auto& [path, wanted] : files_)
      if (TRY(env::read_file(disk_, path, 1 << 20)) != wanted) return differs("read", path);
    return {};
  }
  size_t file_count() const { return files_.size(); }

 private:
  static Result<void> differs(const char* operation, const std::string& path) {
    return fail(ErrorCode::kCorrupt, fmt::format("{} {}: not as in the model", operation, path));
  }
  static std::string parent_of(const std::string& path) {
    size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  std::string some_path() {
    std::string name = fmt::format("n{}", numbers_.below(6));
    return numbers_.below(2) == 0 ? name : fmt::format("d{}/{}", numbers_.below(2), name);
  }
  bool exists(const std::string& path) const { return files_.contains(path) || directories_.contains(path); }
  static Result<void> expect(bool success, const Result<void>& result, const char* operation, const std::string& path) {
    return success == result.has_value() ? Result<void>{} : differs(operation, path);
  }

  Result<void> create() {
    const std::string path = some_path();
    const bool possible = directories_.contains(parent_of(path)) && !exists(path);
    auto file = disk_.open(path, env::OpenMode::kCreate);
    if (possible) files_[path];
    return file.has_value() == possible ? Result<void>{} : differs("create", path);
  }
  Result<void> write() {
    const std::string path = some_path();
    auto file = disk_.open(path, env::OpenMode::kReadWrite);
    auto known = files_.find(path);
    if (file.has_value() != (known != files_.end())) return differs("open", path);
    if (!file) return {};
    Bytes& wanted = known->second;
    for (uint64_t left = 1 + numbers_.below(4); left > 0; --left) {
      const size_t at = numbers_.below(9'000);
      const Bytes data = content(numbers_.next(), numbers_.below(numbers_.below(4) == 0 ? 6'000 : 50));
      TRY(numbers_.below(3) == 0 ? (*file)->write_and_sync(at, data) : (*file)->write(at, data));
      if (numbers_.below(5) == 0) TRY((*file)->sync());
      if (!data.empty() && wanted.size() < at + data.size()) wanted.resize(at + data.size());
      if (!data.empty()) std::ranges::copy(data, wanted.begin() + static_cast<std::ptrdiff_t>(at));
      const size_t from = numbers_.below(12'000);
      const size_t size = numbers_.below(3'000);
      const size_t begin = std::min(from, wanted.size());
      const size_t end = std::min(from + size, wanted.size());
      const Bytes part(wanted.begin() + static_cast<std::ptrdiff_t>(begin),
                       wanted.begin() + static_cast<std::ptrdiff_t>(end));
      if (TRY(read_at(**file, from, size)) != part) return differs("read", path);
    }
    return {};
  }
  Result<void> truncate() {
    const std::string path = some_path();
    auto known = files_.find(path);
    if (known == files_.end()) return {};
    const size_t size = numbers_.below(12'000);
    auto file = TRY(disk_.open(path, env::OpenMode::kReadWrite));
    TRY(file->truncate(size));
    known->second.resize(size);
    return TRY(file->size()) == size ? Result<void>{} : differs("truncate", path);
  }
  Result<void> change_name() {
    const std::string from = some_path();
    const std::string to = some_path();
    if (!files_.contains(from) || !directories_.contains(parent_of(to)) || directories_.contains(to)) return {};
    TRY(disk_.rename(from, to));
    if (from == to) return {};
    files_[to] = std::move(files_[from]);
    files_.erase(from);
    return {};
  }
  Result<void> remove() {
    const std::string path = some_path();
    const bool possible = files_.erase(path) > 0;
    return expect(possible, disk_.remove(path), "remove", path);
  }
  Result<void> make_dir() {
    const std::string path = fmt::format("d{}", numbers_.below(2));
    directories_.insert(path);
    return disk_.make_dir(path);
  }
  Result<void> list() {
    const std::string directory = numbers_.below(2) == 0 ? "" : fmt::format("d{}", numbers_.below(2));
    auto names = disk_.list(directory);
    if (names.has_value() != directories_.contains(directory)) return differs("list", directory);
    if (!names) return {};
    std::set<std::string> wanted;
    for (const auto& [path, data] : files_)
      if (parent_of(path) == directory) wanted.insert(path.substr(directory.empty() ? 0 : directory.size() + 1));
    for (const std::string& path : directories_)
      if (directory.empty() && !path.empty()) wanted.insert(path);
    return std::ranges::equal(*names, wanted) ? Result<void>{} : differs("list", directory);
  }
  Result<void> read_all() {
    const std::string path = some_path();
    auto data = env::read_file(disk_, path, 1 << 20);
    auto known = files_.find(path);
    if (data.has_value() != (known != files_.end())) return differs("open", path);
    return !data || *data == known->second ? Result<void>{} : differs("read", path);
  }

  env::Disk& disk_;
  Numbers numbers_;
  std::map<std::string, Bytes> files_;
  std::set<std::string> directories_;
};

template <class World>
void random_programs(World& world) {
  on_disk(world, [](Env& env) -> Result<void> {
    ModelledDisk model(env, 2024);
    for (int i = 0; i < 800; ++i) TRY(model.step());
    CHECK(model.file_count() > 3);
    return model.compare_all();
  });
}

template <class World>
void disk_contract(World& world) {
  SECTION("modes of opening, and their errors") { open_modes(world); }
  SECTION("paths that lead elsewhere are refused") { strange_paths(world); }
  SECTION("reading beyond the end gives what is there") { reading_beyond_the_end(world); }
  SECTION("files grow with zeros between, and shrink") { growing_and_shrinking(world); }
  SECTION("what was written and synced is read back") { syncing(world); }
  SECTION("directories list their names in order") { directories(world); }
  SECTION("renaming replaces, removing removes") { renaming_and_removing(world); }
  SECTION("a locked directory cannot be locked again until it is released") { locking(world); }
  SECTION("replacing a file leaves only the new one") { replacing(world); }
  SECTION("many fibers write their own files") { many_fibers(world); }
  SECTION("readers see their bytes while others are written") { reading_while_writing(world); }
  SECTION("random programs do what a model in memory does") { random_programs(world); }
}

}  // namespace mneme::contract
