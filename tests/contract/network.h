// The contract of env::Network, Listener and Stream. Include it last.
#pragma once

#include <algorithm>
#include <set>

#include "tests/contract/world.h"
#include "tests/test.h"

namespace mneme::contract {

// Two ends of one connection: `near` belongs to here(), `far` to there().
struct Link {
  std::unique_ptr<env::Listener> listener;
  std::unique_ptr<env::Stream> near;
  std::unique_ptr<env::Stream> far;
};

// Connects once more, to the same listener.
template <class World>
void connect_more(World& world, Link& link) {
  auto connected = fiber::with_scope(world.here().scheduler, [&](fiber::Scope& scope) -> Result<void> {
    scope.spawn("accept", [&]() -> Result<void> {
      link.far = TRY(link.listener->accept());
      return {};
    });
    link.near = TRY(world.here().network.connect(link.listener->address()));
    return {};
  });
  if (!connected) FAIL(connected.error().message);
}

template <class World>
Link make_link(World& world) {
  Link link;
  auto listener = world.there().network.listen({world.there_host(), 0});
  if (!listener) FAIL(listener.error().message);
  link.listener = std::move(*listener);
  connect_more(world, link);
  return link;
}

inline std::string read_text(env::Stream& stream, size_t size) {
  Bytes bytes(size);
  auto got = env::read_exactly(stream, bytes);
  return got ? std::string(as_text(bytes)) : got.error().message;
}

template <class World>
void text_comes_back(World& world) {
  world.run([&] {
    Link link = make_link(world);
    CHECK(link.listener->address().port != 0);
    CHECK(link.near->peer() == link.listener->address());
    for (std::string_view text : {"a", "hello, world"}) {
      CHECK(link.near->write(as_bytes(text)).has_value());
      CHECK(read_text(*link.far, text.size()) == text);
      CHECK(link.far->write(as_bytes(text)).has_value());
      CHECK(read_text(*link.near, text.size()) == text);
    }
    CHECK(link.near->write({}).has_value());
  });
}

// Writes, or reads and compares, `size` bytes of a content in pieces of all sizes.
inline Result<void> write_pieces(env::Stream& to, uint64_t content_id, size_t size) {
  Numbers numbers(content_id);
  for (size_t at = 0; at < size;) {
    size_t piece = std::min<size_t>(size - at, 1 + numbers.below(numbers.below(8) == 0 ? 70'000 : 900));
    TRY(to.write(content(content_id, piece, at)));
    at += piece;
  }
  return {};
}
inline Result<void> read_pieces(env::Stream& from, uint64_t content_id, size_t size) {
  Numbers numbers(content_id + 1000);
  Bytes buffer(70'000);
  for (size_t at = 0; at < size;) {
    std::span<uint8_t> piece(buffer.data(), 1 + numbers.below(numbers.below(4) == 0 ? 70'000 : 900));
    size_t got = TRY(from.read(piece));
    if (got == 0 || got > piece.size()) return fail(ErrorCode::kCorrupt, "a wrong number of bytes was read");
    for (size_t i = 0; i < got; ++i)
      if (buffer[i] != content_at(content_id, at + i)) return fail(ErrorCode::kCorrupt, "a wrong byte was read");
    at += got;
  }
  return {};
}

template <class World>
void bytes_keep_their_order(World& world) {
  world.run([&] {
    constexpr size_t kSize = 600'000;
    Link link = make_link(world);
    auto result = fiber::with_scope(world.here().scheduler, [&](fiber::Scope& scope) {
      scope.spawn("near writes", [&] { return write_pieces(*link.near, 1, kSize); });
      scope.spawn("near reads", [&] { return read_pieces(*link.near, 2, kSize); });
      scope.spawn("far writes", [&] { return write_pieces(*link.far, 2, kSize); });
      scope.spawn("far reads", [&] { return read_pieces(*link.far, 1, kSize); });
    });
    CHECK((result ? "" : result.error().message) == "");
  });
}

template <class World>
void end_comes_after_the_last_byte(World& world) {
  world.run([&] {
    constexpr size_t kSize = 200'000;
    Link link = make_link(world);
    auto result = fiber::with_scope(world.here().scheduler, [&](fiber::Scope& scope) {
      scope.spawn("reader", [&]() -> Result<void> {
        TRY(read_pieces(*link.far, 3, kSize));
        uint8_t byte;
        CHECK(TRY(link.far->read({&byte, 1})) == 0);
        CHECK(TRY(link.far->read({&byte, 1})) == 0);
        return {};
      });
      scope.spawn("writer", [&]() -> Result<void> {
        TRY(link.near->write(content(3, kSize)));
        link.near.reset();  // what was written is still sent
        return {};
      });
    });
    CHECK((result ? "" : result.error().message) == "");
  });
}

template <class World>
void writing_to_a_closed_peer_fails(World& world) {
  world.run([&] {
    Env& env = world.here();
    Link link = make_link(world);
    link.far->close();
    Result<void> written;
    for (int i = 0; i < 1000 && written; ++i) {
      written = link.near->write(as_bytes("is anybody there?"));
      env.clock.sleep_for(env.scheduler, 100us);
    }
    CHECK(is(written, ErrorCode::kClosed));
    CHECK(is(link.near->write(as_bytes("?")), ErrorCode::kClosed));
  });
}

template <class World>
void a_stream_closed_here_says_so(World& world) {
  world.run([&] {
    Env& env = world.here();
    Link link = make_link(world);
    Result<size_t> pending_read = 1;
    Result<void> pending_write;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("reader", [&] {
        uint8_t byte;
        pending_read = link.near->read({&byte, 1});
      });
      scope.spawn("writer", [&] {
        Bytes much(1 << 20);
        for (int i = 0; i < 64 && pending_write; ++i) pending_write = link.near->write(much);
      });
      env.clock.sleep_for(env.scheduler, 5ms);
      link.near->close();
      link.near->close();
    });
    CHECK(result.has_value());
    CHECK(is(pending_read, ErrorCode::kClosed));
    CHECK(is(pending_write, ErrorCode::kClosed));
    uint8_t byte;
    CHECK(is(link.near->read({&byte, 1}), ErrorCode::kClosed));
    CHECK(is(link.near->write({&byte, 1}), ErrorCode::kClosed));
  });
}

template <class World>
void nobody_listening_refuses(World& world) {
  world.run([&] {
    auto listener = world.there().network.listen({world.there_host(), 0});
    REQUIRE(listener.has_value());
    const env::Address address = (*listener)->address();
    listener->reset();
    auto refused = world.here().network.connect(address);
    CHECK(is(refused, ErrorCode::kRefused));
    if (!refused) CHECK(refused.error().message.find(env::to_string(address)) != std::string::npos);
  });
}

template <class World>
void an_address_has_one_listener(World& world) {
  world.run([&] {
    env::Network& network = world.there().network;
    auto first = network.listen({world.there_host(), 0});
    REQUIRE(first.has_value());
    const env::Address address = (*first)->address();
    CHECK(is(network.listen(address), ErrorCode::kBusy));
    auto other = network.listen({world.there_host(), 0});
    REQUIRE(other.has_value());
    CHECK((*other)->address().port != address.port);
    first->reset();
    auto again = network.listen(address);
    REQUIRE(again.has_value());
    CHECK((*again)->address() == address);
    CHECK(is(network.listen({"192.0.2.1", 0}), ErrorCode::kInvalid));  // for documentation only (RFC 5737)
  });
}

// A writer whose peer does not read is held back, by an amount that a node can afford per connection.
template <class World>
void a_peer_that_does_not_read_holds_the_writer_back(World& world) {
  world.run([&] {
    constexpr size_t kTotal = 48 << 20;
    constexpr size_t kPiece = 64 << 10;
    Env& env = world.here();
    Link link = make_link(world);
    size_t accepted = 0;
    size_t held_at = 0;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      scope.spawn("writer", [&]() -> Result<void> {
        Bytes piece(kPiece);
        for (; accepted < kTotal; accepted += kPiece) TRY(link.near->write(piece));
        return {};
      });
      for (size_t before = 1; before != accepted || held_at == 0;) {
        before = accepted;
        env.clock.sleep_for(env.scheduler, 5ms);
        held_at = accepted;
      }
      Bytes buffer(1 << 20);
      for (size_t received = 0; received < kTotal;) {
        size_t got = TRY(link.far->read(buffer));
        if (got == 0) return fail(ErrorCode::kClosed, "the stream ended early");
        received += got;
      }
      return {};
    });
    CHECK((result ? "" : result.error().message) == "");
    CHECK(held_at <= (16u << 20));
    CHECK(accepted == kTotal);
  });
}

template <class World>
void a_cancelled_read_keeps_no_byte(World& world) {
  world.run([&] {
    constexpr size_t kRounds = 100;
    Env& env = world.here();
    Link link = make_link(world);
    size_t timeouts = 0;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      scope.spawn("writer", [&]() -> Result<void> {
        Numbers numbers(4);
        for (size_t i = 0; i < kRounds; ++i) {
          env.clock.sleep_for(env.scheduler, Duration(numbers.below(200'000)));
          const uint8_t byte = content_at(5, i);
          TRY(link.far->write({&byte, 1}));
        }
        return {};
      });
      Numbers numbers(6);
      for (size_t received = 0; received < kRounds;) {
        uint8_t buffer[3];
        Instant at = env.clock.now() + Duration(numbers.below(100'000));
        auto got = fiber::with_deadline(env.scheduler, env.clock.timers(), at, [&] { return link.near->read(buffer); });
        if (!got && got.error().code != ErrorCode::kTimeout) return std::unexpected(got.error());
        if (!got && ++timeouts > 1'000'000) return std::unexpected(got.error());
        for (size_t i = 0; i < got.value_or(0); ++i)
          if (buffer[i] != content_at(5, received++)) return fail(ErrorCode::kCorrupt, "a byte is missing");
      }
      return {};
    });
    CHECK((result ? "" : result.error().message) == "");
    CHECK(timeouts > 0);
  });
}

template <class World>
void a_cancelled_accept_loses_no_connection(World& world) {
  world.run([&] {
    Env& env = world.there();
    Link link = make_link(world);
    auto nobody = fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 1ms,
                                       [&] { return link.listener->accept(); });
    CHECK(is(nobody, ErrorCode::kTimeout));
    connect_more(world, link);
    CHECK(link.near->write(as_bytes("x")).has_value());
    CHECK(read_text(*link.far, 1) == "x");
  });
}

template <class World>
void many_connections_keep_apart(World& world) {
  world.run([&] {
    constexpr size_t kConnections = 200;
    auto listening = world.there().network.listen({world.there_host(), 0});
    REQUIRE(listening.has_value());
    env::Listener& listener = **listening;
    std::set<uint64_t> near_ids;
    std::set<uint64_t> far_ids;
    size_t answered = 0;
    auto result = fiber::with_scope(world.here().scheduler, [&](fiber::Scope& scope) {
      scope.spawn_daemon("server", [&]() -> Result<void> {
        return fiber::with_scope(world.there().scheduler, [&](fiber::Scope& connections) -> Result<void> {
          for (;;) {
            std::unique_ptr<env::Stream> stream = TRY(listener.accept());
            far_ids.insert(stream->id());
            connections.spawn("echo", [stream = std::move(stream)]() -> Result<void> {
              Bytes buffer(512);
              while (size_t got = TRY(stream->read(buffer))) TRY(stream->write(ByteView(buffer).first(got)));
              return {};
            });
          }
        });
      });
      for (size_t i = 0; i < kConnections; ++i)
        scope.spawn("client", [&, i]() -> Result<void> {
          std::unique_ptr<env::Stream> stream = TRY(world.here().network.connect(listener.address()));
          near_ids.insert(stream->id());
          TRY(stream->write(content(i, 1000)));
          TRY(read_pieces(*stream, i, 1000));
          ++answered;
          return {};
        });
    });
    CHECK((result ? "" : result.error().message) == "");
    CHECK(answered == kConnections);
    CHECK(near_ids.size() == kConnections);
    CHECK(far_ids.size() == kConnections);
  });
}

template <class World>
void network_contract(World& world) {
  SECTION("what one side writes the other reads") { text_comes_back(world); }
  SECTION("bytes keep their order in both directions at once, whatever the pieces") { bytes_keep_their_order(world); }
  SECTION("the end comes after the last byte, and again") { end_comes_after_the_last_byte(world); }
  SECTION("writing to a peer that has closed fails in the end") { writing_to_a_closed_peer_fails(world); }
  SECTION("closing ends pending and later calls") { a_stream_closed_here_says_so(world); }
  SECTION("connecting where nobody listens is refused") { nobody_listening_refuses(world); }
  SECTION("an address has one listener at a time") { an_address_has_one_listener(world); }
  SECTION("a peer that does not read holds the writer back until it does") {
    a_peer_that_does_not_read_holds_the_writer_back(world);
  }
  SECTION("a cancelled read keeps no byte") { a_cancelled_read_keeps_no_byte(world); }
  SECTION("a cancelled accept loses no connection") { a_cancelled_accept_loses_no_connection(world); }
  SECTION("many connections keep apart, and their ids differ") { many_connections_keep_apart(world); }
}

}  // namespace mneme::contract
