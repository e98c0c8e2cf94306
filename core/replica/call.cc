#include "core/replica/call.h"

namespace mneme::replica {

std::string CommandList::encode(const kv::BatchHeader& header) const {
  kv::BatchBuilder builder(header);
  for (const Item& item : items_) builder.add(item.meta, args(item));
  return std::move(builder).finish();
}

}  // namespace mneme::replica
