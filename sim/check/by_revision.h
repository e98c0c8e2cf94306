// The path by revision: one key's history whose replies tell their place in the order of changes.
//
// Stores that number their changes (etcd's mod_revision, ZooKeeper's zxid, a log index) say with each reply which
// number it made or saw. Sorted by it, changes before those who saw them, the operations stand in an order that either
// proves the history linearizable or proves nothing: a revision is a hint and never evidence, so that a store which
// numbers wrongly and answers rightly is still right. Operations of unknown outcome need no revision: one is put in
// where the next reply asks for what it writes.
#pragma once

#include <vector>

#include "sim/check/prepare.h"

namespace mneme::check {

// A linearization, or nothing: then another path must decide. Time n log n.
std::optional<std::vector<OpId>> order_by_revision(const KeyView& key);

}  // namespace mneme::check
