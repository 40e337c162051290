#include "model/kv_cache.hpp"

#include <algorithm>

namespace empu {

namespace {

constexpr size_t kPiece = size_t{32} << 20;  // many huge pages, so that the last, broken one matters little

size_t bytes_of_head(CacheKind kind, int head_dim) {
    const size_t elements = size_t(kBlockKeys) * size_t(head_dim + round_up(head_dim, kLanes));
    return kind == CacheKind::Bfloat ? elements * sizeof(uint16_t) : elements + 2 * kBlockKeys * sizeof(uint16_t);
}

}  // namespace

struct BlockRoom::Piece {
    Memory memory;
    std::vector<int> left;  // blocks that were in use and are not any more
    int taken = 0;          // blocks that ever were
};

BlockRoom::BlockRoom(size_t block_bytes, size_t memory_limit) : block_bytes_(block_bytes) {
    in_piece_ = int(std::max(std::min(kPiece, memory_limit) / block_bytes, size_t{1}));
}

std::shared_ptr<BlockRoom::Piece> BlockRoom::piece_with_room() {
    std::erase_if(pieces_, [](const auto& piece) { return piece.expired(); });
    for (const auto& known : pieces_) {
        const auto piece = known.lock();
        if (!piece->left.empty() || piece->taken < in_piece_) return piece;
    }
    const auto piece = std::make_shared<Piece>();
    piece->memory = Memory(size_t(in_piece_) * block_bytes_);
    piece->left.reserve(size_t(in_piece_));  // whoever gives a block back must not need memory for it
    pieces_.push_back(piece);
    return piece;
}

std::shared_ptr<Memory> BlockRoom::take() {
    const auto piece = piece_with_room();
    const bool used = !piece->left.empty();
    const int index = used ? piece->left.back() : piece->taken;
    auto block = std::make_unique<Memory>(piece->memory.part(size_t(index) * block_bytes_, block_bytes_));
    if (used) {
        std::memset(block->bytes(), 0, block_bytes_);
        piece->left.pop_back();
    } else {
        ++piece->taken;
    }
    last_ = piece;
    return {block.release(), [piece, index](Memory* given) {
                delete given;
                piece->left.push_back(index);
            }};
}

Cache::Cache(CacheKind kind, int layers, int heads, int head_dim, size_t memory_limit)
    : kind_(kind),
      layers_(layers),
      heads_(heads),
      head_dim_(head_dim),
      width_(round_up(head_dim, kLanes)),
      head_bytes_(bytes_of_head(kind, head_dim)),
      limit_(memory_limit),
      room_(block_bytes(), memory_limit) {}

size_t Cache::reserved_bytes(int capacity) const {
    return (size_t(capacity) + kBlockKeys - 1) / kBlockKeys * block_bytes();
}

int64_t Cache::allocate(int capacity, std::shared_ptr<const Adapter> adapter) {
    if (capacity < 1) throw Error("A sequence needs room for at least one token.");
    const size_t need = reserved_bytes(capacity);
    if (need > limit_) {
        throw Error("A cache for " + std::to_string(capacity) + " tokens needs " + std::to_string(need >> 20) +
                    " MiB, and all sequences together have " + std::to_string(limit_ >> 20) +
                    " MiB; shorten the text, or ask for fewer tokens.");
    }
    if (need > limit_ - reserved_) {
        throw NoRoom("A cache for " + std::to_string(capacity) + " tokens needs " + std::to_string(need >> 20) +
                     " MiB and " + std::to_string((limit_ - reserved_) >> 20) +
                     " MiB are left; ask for a shorter context or fewer sequences at once.");
    }
    reserved_ += need;
    Sequence& sequence = sequences_[next_];
    sequence.capacity = capacity;
    sequence.adapter = std::move(adapter);
    return next_++;
}

Sequence& Cache::at(int64_t id) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) {
        throw Error("There is no sequence " + std::to_string(id) + "; it was released or never allocated.");
    }
    return found->second;
}

void Cache::release(int64_t id) {
    reserved_ -= reserved_bytes(at(id).capacity);
    sequences_.erase(id);
}

int64_t Cache::fork(int64_t id, int length, int capacity) {
    const Sequence& source = at(id);
    if (length < 0 || length > source.length || length > capacity) {
        throw Error("The sequence has " + std::to_string(source.length) + " tokens; " + std::to_string(length) +
                    " cannot be taken from it into room for " + std::to_string(capacity) + ".");
    }
    const int64_t forked = allocate(capacity, source.adapter);
    Sequence& target = sequences_[forked];
    target.length = length;
    target.blocks.assign(source.blocks.begin(), source.blocks.begin() + (length + kBlockKeys - 1) / kBlockKeys);
    return forked;
}

void Cache::truncate(int64_t id, int length) {
    Sequence& sequence = at(id);
    if (length < 0 || length > sequence.length) {
        throw Error("The sequence has " + std::to_string(sequence.length) + " tokens and cannot be cut to " +
                    std::to_string(length) + ".");
    }
    sequence.length = length;
    sequence.blocks.resize(size_t((length + kBlockKeys - 1) / kBlockKeys));
}

void Cache::prepare(Sequence& sequence, int count) {
    const size_t end = size_t((sequence.length + count + kBlockKeys - 1) / kBlockKeys);
    for (size_t index = size_t(sequence.length / kBlockKeys); index < end; ++index) {
        if (index == sequence.blocks.size()) {
            sequence.blocks.push_back(room_.take());
        } else if (sequence.blocks[index].use_count() > 1) {
            auto copy = room_.take();
            std::memcpy(copy->bytes(), sequence.blocks[index]->bytes(), block_bytes());
            sequence.blocks[index] = std::move(copy);
        }
    }
}

uint8_t* Cache::head_of(const Sequence& sequence, int index, int layer, int head) const {
    return sequence.blocks[size_t(index)]->bytes() + size_t(layer * heads_ + head) * head_bytes_;
}

CacheBlock Cache::block(const Sequence& sequence, int index, int layer, int head) const {
    const auto* keys = reinterpret_cast<const uint16_t*>(head_of(sequence, index, layer, head));
    return {keys, keys + size_t(head_dim_) * kBlockKeys};
}

SmallBlock Cache::small_block(const Sequence& sequence, int index, int layer, int head) const {
    const auto* keys = reinterpret_cast<const int8_t*>(head_of(sequence, index, layer, head));
    const int8_t* values = keys + size_t(head_dim_) * kBlockKeys;
    const auto* scales = reinterpret_cast<const uint16_t*>(values + size_t(width_) * kBlockKeys);
    return {keys, values, scales, scales + kBlockKeys};
}

size_t Cache::value_at(int within) const { return size_t(within / 2 * 2) * size_t(width_) + size_t(within % 2); }

Cache::Slot Cache::slot(const Sequence& sequence, int position, int layer, int head) const {
    auto* keys = reinterpret_cast<uint16_t*>(head_of(sequence, position / kBlockKeys, layer, head));
    const int within = position % kBlockKeys;
    return {keys + 2 * within, keys + size_t(head_dim_) * kBlockKeys + value_at(within)};
}

Cache::SmallSlot Cache::small_slot(const Sequence& sequence, int position, int layer, int head) const {
    auto* keys = reinterpret_cast<int8_t*>(head_of(sequence, position / kBlockKeys, layer, head));
    const int within = position % kBlockKeys;
    int8_t* values = keys + size_t(head_dim_) * kBlockKeys;
    auto* scales = reinterpret_cast<uint16_t*>(values + size_t(width_) * kBlockKeys);
    return {keys + 2 * within, values + value_at(within), scales + within, scales + kBlockKeys + within};
}

}  // namespace empu
