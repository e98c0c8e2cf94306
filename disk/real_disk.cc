#include "disk/real_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "core/base/check.h"
#include "disk/real_file.h"
#include "disk/system_error.h"

namespace mneme::disk {

namespace {

constexpr const char* kLockName = "LOCK";

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// Writes its owner's process id into the file, for the sentence that the next one gets. Held by the open file, so that
// it goes when the process does; flock() excludes a second owner within the process too, which POSIX locks do not.
class RealDirectoryLock final : public env::DirectoryLock {
 public:
  explicit RealDirectoryLock(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}

 private:
  Descriptor descriptor_;
};

class RealDisk final : public env::Disk {
 public:
  RealDisk(std::string root, Descriptor descriptor, std::unique_ptr<Engine> engine)
      : root_(std::move(root)), descriptor_(std::move(descriptor)), engine_(std::move(engine)) {}

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    TRY(env::check_path(path, false));
    int flags = O_CLOEXEC | O_NONBLOCK;  // opening a pipe that somebody put there must not wait
    flags |= mode == env::OpenMode::kRead ? O_RDONLY : O_RDWR;
    if (mode == env::OpenMode::kCreate) flags |= O_CREAT | O_EXCL;
    int descriptor = TRY(call("open", path, [&] { return ::openat(descriptor_.get(), path.c_str(), flags, 0644); }));
    auto file = std::make_unique<RealFile>(*engine_, descriptor, name(path), mode != env::OpenMode::kRead,
                                           mode == env::OpenMode::kCreate);
    struct stat status;
    if (::fstat(descriptor, &status) != 0) return system_error("stat", name(path), errno);
    if (!S_ISREG(status.st_mode))
      return fail(ErrorCode::kInvalid, fmt::format("open {}: it is not a file", name(path)));
    ::fcntl(descriptor, F_SETFL, 0);  // io_uring would take O_NONBLOCK at its word and say EAGAIN
    return file;
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    TRY(env::check_path(directory, true));
    Descriptor opened(TRY(open_directory(directory)));
    std::vector<std::string> names;
    TRY(call("list", directory, [&] { return read_names(opened.release(), names); }));
    std::ranges::sort(names);
    return names;
  }

  Result<void> make_dir(const std::string& path) override {
    TRY(env::check_path(path, false));
    auto made = call("make directory", path, [&] { return ::mkdirat(descriptor_.get(), path.c_str(), 0755); });
    if (made) return {};
    struct stat status;
    if (made.error().code == ErrorCode::kExists && ::fstatat(descriptor_.get(), path.c_str(), &status, 0) == 0 &&
        S_ISDIR(status.st_mode))
      return {};
    return std::unexpected(made.error());
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    TRY(env::check_path(from, false));
    TRY(env::check_path(to, false));
    const std::string both = fmt::format("{} to {}", from, to);
    TRY(call("rename", both, [&] {
      // Only a file replaces a file. The system would let a directory replace an empty one.
      struct stat old;
      struct stat there;
      if (from != to && ::fstatat(descriptor_.get(), from.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0 &&
          ::fstatat(descriptor_.get(), to.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
          (S_ISDIR(old.st_mode) || S_ISDIR(there.st_mode))) {
        errno = EEXIST;
        return -1;
      }
      return ::renameat(descriptor_.get(), from.c_str(), descriptor_.get(), to.c_str());
    }));
    return {};
  }

  Result<void> remove(const std::string& path) override {
    TRY(env::check_path(path, false));
    TRY(call("remove", path, [&] {
      const int result = ::unlinkat(descriptor_.get(), path.c_str(), 0);
      return result != 0 && errno == EISDIR ? remove_directory(path) : result;
    }));
    return {};
  }

  Result<void> sync_dir(const std::string& directory) override {
    TRY(env::check_path(directory, true));
    Descriptor opened(TRY(open_directory(directory)));
    TRY(call("sync directory", directory, [&] { return ::fsync(opened.get()); }));
    return {};
  }

  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string& directory) override {
    TRY(env::check_path(directory, true));
    Descriptor parent(TRY(open_directory(directory)));
    Descriptor file(TRY(call("open lock of", directory,
                             [&] { return ::openat(parent.get(), kLockName, O_RDWR | O_CREAT | O_CLOEXEC, 0644); })));
    int busy = 0;
    TRY(call("lock", directory, [&] {
      int result = ::flock(file.get(), LOCK_EX | LOCK_NB);
      if (result == 0 || errno != EWOULDBLOCK) return result;
      busy = 1;
      return 0;
    }));
    char text[24] = "";
    if (busy) {
      ssize_t got = ::pread(file.get(), text, sizeof text - 1, 0);
      const std::string_view owner(text, got > 0 ? static_cast<size_t>(got) : 0);
      const bool known = !owner.empty() && owner.find_first_not_of("0123456789\n") == std::string_view::npos;
      return fail(ErrorCode::kBusy, fmt::format("the directory {} is in use by process {}", name(directory),
                                                known ? owner.substr(0, owner.find('\n')) : "?"));
    }
    const std::string own = fmt::format("{}\n", ::getpid());
    TRY(call("write lock of", directory, [&] {
      if (::ftruncate(file.get(), 0) != 0) return -1;
      return ::pwrite(file.get(), own.data(), own.size(), 0) < 0 ? -1 : 0;
    }));
    return std::make_unique<RealDirectoryLock>(std::move(file));
  }

 private:
  std::string name(std::string_view path) const { return path.empty() ? root_ : fmt::format("{}/{}", root_, path); }

  // fn() is a system call that says -1 and errno; again after EINTR. Suspends.
  template <class F>
  Result<int> call(const char* operation, std::string_view path, F&& fn) {
    int result = -1;
    int error = 0;
    engine_->call([&] {
      do {
        result = fn();
        error = result < 0 ? errno : 0;
      } while (error == EINTR);
    });
    if (error != 0) return system_error(operation, name(path), error);
    return result;
  }

  Result<int> open_directory(const std::string& directory) {
    return call("open directory", directory, [&] {
      return ::openat(descriptor_.get(), directory.empty() ? "." : directory.c_str(),
                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    });
  }

  // The lock's own file is no content of the directory, and goes with it, unless somebody holds the lock.
  int remove_directory(const std::string& path) const {
    const int result = ::unlinkat(descriptor_.get(), path.c_str(), AT_REMOVEDIR);
    if (result == 0 || (errno != ENOTEMPTY && errno != EEXIST)) return result;
    const int directory = ::openat(descriptor_.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::vector<std::string> names;
    if (directory < 0 || read_names(directory, names) != 0) return -1;
    const std::string lock_path = path + '/' + kLockName;
    Descriptor lock(::openat(descriptor_.get(), lock_path.c_str(), O_RDWR | O_CLOEXEC));
    if (!names.empty() || lock.get() < 0) {
      errno = ENOTEMPTY;
      return -1;
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) errno = EBUSY;
      return -1;
    }
    if (::unlinkat(descriptor_.get(), lock_path.c_str(), 0) != 0) return -1;
    return ::unlinkat(descriptor_.get(), path.c_str(), AT_REMOVEDIR);
  }

  // Takes the descriptor over. The lock's own file is no content of the directory.
  static int read_names(int descriptor, std::vector<std::string>& names) {
    DIR* stream = ::fdopendir(descriptor);
    if (!stream) {
      const int error = errno;
      ::close(descriptor);
      errno = error;
      return -1;
    }
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string_view found = entry->d_name;
      if (found != "." && found != ".." && found != kLockName) names.emplace_back(found);
    }
    const int error = errno;
    ::closedir(stream);
    errno = error;
    return error == 0 ? 0 : -1;
  }

  const std::string root_;
  const Descriptor descriptor_;
  const std::unique_ptr<Engine> engine_;
};

Result<Descriptor> open_root(const Options& options) {
  std::string parent = options.root;
  while (parent.size() > 1 && parent.ends_with('/')) parent.pop_back();
  if (options.make_root && ::mkdir(options.root.c_str(), 0755) == 0) {
    size_t slash = parent.rfind('/');
    parent = slash == std::string::npos ? "." : slash == 0 ? "/" : parent.substr(0, slash);
    Descriptor above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (above.get() < 0 || ::fsync(above.get()) != 0) return system_error("sync directory", parent, errno);
  } else if (options.make_root && errno != EEXIST) {
    return system_error("make directory", options.root, errno);
  }
  Descriptor root(::open(options.root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0 && errno == ENOTDIR)
    return fail(ErrorCode::kInvalid, fmt::format("{} is not a directory", options.root));
  if (root.get() < 0) return system_error("open directory", options.root, errno);
  return root;
}

Result<std::unique_ptr<Engine>> make_engine(fiber::Scheduler& scheduler, env::Completions& completions,
                                            Options& options) {
  switch (options.way) {
    case Way::kBlocking: return make_blocking_engine(scheduler);
    case Way::kThread: return make_thread_engine(scheduler, completions);
    case Way::kUring: return make_uring_engine(scheduler, completions);
    case Way::kAdaptive: break;
  }
  auto other = make_uring_engine(scheduler, completions);
  if (!other) other = make_thread_engine(scheduler, completions);
  if (!other) return other;
  if (!options.busy) options.busy = [] { return std::numeric_limits<size_t>::max(); };
  return make_adaptive_engine(scheduler, std::move(*other), std::move(options.busy));
}

}  // namespace

Result<std::unique_ptr<env::Disk>> open_disk(fiber::Scheduler& scheduler, env::Completions& completions,
                                             Options options) {
  Descriptor root = TRY(open_root(options));
  auto engine = TRY(make_engine(scheduler, completions, options));
  return std::make_unique<RealDisk>(std::move(options.root), std::move(root), std::move(engine));
}

}  // namespace mneme::disk
