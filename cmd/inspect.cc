// mneme inspect: files of a data directory in words, offline and read-only.
#include "core/wal/inspect.h"

#include <fmt/format.h>

#include <filesystem>

#include "cmd/common.h"
#include "disk/real_disk.h"
#include "net/event_loop.h"

namespace mneme::cmd {

namespace {

int inspect_wal(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> files;
  if (fs::is_directory(path, error)) {
    for (auto& entry : fs::directory_iterator(path, error))
      if (entry.path().filename().string().starts_with("wal-")) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    if (files.empty()) return complain(kUsage, fmt::format("{} has no write-ahead log segments", path));
  } else if (fs::is_regular_file(path, error)) {
    files.push_back(path);
  } else {
    return complain(kUsage, fmt::format("there is no file or directory {}", path));
  }
  int exit = kOk;
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  scheduler.run(loop, nullptr, [&] {
    for (const fs::path& file : files) {
      const fs::path absolute = fs::absolute(file);
      auto disk =
          disk::open_disk(scheduler, loop, {.root = absolute.parent_path().string(), .way = disk::Way::kBlocking});
      Result<void> done = disk ? wal::inspect(**disk, absolute.filename().string(),
                                              [](std::string_view line) { fmt::print("{}\n", line); })
                               : Result<void>(std::unexpected(disk.error()));
      if (!done) {
        exit = complain(kIo, done.error().message);
        return;
      }
    }
  });
  return exit;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App* inspect = app.add_subcommand("inspect", "Show what files of a data directory hold; never writes");
  inspect->require_subcommand(1);
  CLI::App* wal = inspect->add_subcommand("wal", "Show a write-ahead log segment, or all of a directory's");
  auto path = std::make_shared<std::string>();
  wal->add_option("PATH", *path, "a segment file, or the wal directory")->required();
  const char* examples =
      "Examples:\n  mneme inspect wal mneme-data/wal\n  mneme inspect wal mneme-data/wal/wal-0000000000000001";
  wal->footer(examples);
  inspect->footer(examples);
  wal->callback([path, &run] { run = [path] { return inspect_wal(*path); }; });
}

}  // namespace mneme::cmd
