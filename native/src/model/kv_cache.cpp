#include "model/kv_cache.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.hpp"

namespace empu {

namespace {

constexpr size_t kSlabBytes = size_t{32} << 20;  // many huge pages, so that the last, partly used one matters little

size_t head_bytes(CacheFormat format, int head_dim) {
    const size_t elements = size_t(kBlockKeys) * size_t(head_dim + round_up(head_dim, kLanes));
    return format == CacheFormat::Bfloat16 ? elements * sizeof(uint16_t) : elements + 2 * kBlockKeys * sizeof(uint16_t);
}

}  // namespace

struct BlockAllocator::Slab {
    Memory memory;
    std::vector<int> free;  // indices of blocks that were released
    int used = 0;           // blocks allocated from the start of the slab
};

BlockAllocator::BlockAllocator(size_t block_bytes, size_t memory_limit) : block_bytes_(block_bytes) {
    blocks_per_slab_ = int(std::max(std::min(kSlabBytes, memory_limit) / block_bytes, size_t{1}));
}

std::shared_ptr<BlockAllocator::Slab> BlockAllocator::slab_with_space() {
    std::erase_if(slabs_, [](const auto& slab) { return slab.expired(); });
    for (const auto& weak : slabs_) {
        const auto slab = weak.lock();
        if (!slab->free.empty() || slab->used < blocks_per_slab_) return slab;
    }
    const auto slab = std::make_shared<Slab>();
    slab->memory = Memory(size_t(blocks_per_slab_) * block_bytes_);
    slab->free.reserve(size_t(blocks_per_slab_));  // releasing a block must not allocate memory
    slabs_.push_back(slab);
    return slab;
}

std::shared_ptr<Memory> BlockAllocator::allocate() {
    const auto slab = slab_with_space();
    const bool is_reused = !slab->free.empty();
    const int index = is_reused ? slab->free.back() : slab->used;
    auto block = std::make_unique<Memory>(slab->memory.slice(size_t(index) * block_bytes_, block_bytes_));
    if (is_reused) {
        std::memset(block->bytes(), 0, block_bytes_);
        slab->free.pop_back();
    } else {
        ++slab->used;
    }
    last_ = slab;
    return {block.release(), [slab, index](Memory* released) {
                delete released;
                slab->free.push_back(index);
            }};
}

KvCache::KvCache(CacheFormat format, int layers, int heads, int head_dim, size_t memory_limit)
    : format_(format),
      layers_(layers),
      heads_(heads),
      head_dim_(head_dim),
      padded_head_dim_(round_up(head_dim, kLanes)),
      head_bytes_(head_bytes(format, head_dim)),
      limit_(memory_limit),
      allocator_(block_bytes(), memory_limit) {}

size_t KvCache::capacity_bytes(int capacity) const {
    return (size_t(capacity) + kBlockKeys - 1) / kBlockKeys * block_bytes();
}

int64_t KvCache::allocate(int capacity, std::shared_ptr<const LoraAdapter> adapter) {
    if (capacity < 1) throw Error("A sequence needs a capacity of at least one token.");
    const size_t need = capacity_bytes(capacity);
    if (need > limit_) {
        throw Error("A cache for " + std::to_string(capacity) + " tokens needs " + std::to_string(need >> 20) +
                    " MiB, and all sequences together have " + std::to_string(limit_ >> 20) +
                    " MiB; shorten the text, or ask for fewer tokens.");
    }
    if (need > limit_ - reserved_) {
        throw CacheFullError("A cache for " + std::to_string(capacity) + " tokens needs " + std::to_string(need >> 20) +
                             " MiB and " + std::to_string((limit_ - reserved_) >> 20) +
                             " MiB are left; ask for a shorter context or fewer sequences at once.");
    }
    reserved_ += need;
    Sequence& sequence = sequences_[next_id_];
    sequence.capacity = capacity;
    sequence.adapter = std::move(adapter);
    return next_id_++;
}

Sequence& KvCache::at(int64_t id) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) {
        throw Error("There is no sequence " + std::to_string(id) + "; it was released or never allocated.");
    }
    return found->second;
}

void KvCache::release(int64_t id) {
    reserved_ -= capacity_bytes(at(id).capacity);
    sequences_.erase(id);
}

int64_t KvCache::fork(int64_t id, int length, int capacity) {
    const Sequence& source = at(id);
    if (length < 0 || length > source.length || length > capacity) {
        throw Error("The sequence has " + std::to_string(source.length) + " tokens; its first " +
                    std::to_string(length) + " cannot be forked into a sequence of capacity " +
                    std::to_string(capacity) + ".");
    }
    const int64_t forked = allocate(capacity, source.adapter);
    Sequence& target = sequences_[forked];
    target.length = length;
    target.blocks.assign(source.blocks.begin(), source.blocks.begin() + (length + kBlockKeys - 1) / kBlockKeys);
    return forked;
}

void KvCache::truncate(int64_t id, int length) {
    Sequence& sequence = at(id);
    if (length < 0 || length > sequence.length) {
        throw Error("The sequence has " + std::to_string(sequence.length) + " tokens and cannot be truncated to " +
                    std::to_string(length) + ".");
    }
    sequence.length = length;
    sequence.blocks.resize(size_t((length + kBlockKeys - 1) / kBlockKeys));
}

void KvCache::make_writable(Sequence& sequence, int count) {
    const size_t end = size_t((sequence.length + count + kBlockKeys - 1) / kBlockKeys);
    for (size_t index = size_t(sequence.length / kBlockKeys); index < end; ++index) {
        if (index == sequence.blocks.size()) {
            sequence.blocks.push_back(allocator_.allocate());
        } else if (sequence.blocks[index].use_count() > 1) {
            auto copy = allocator_.allocate();
            std::memcpy(copy->bytes(), sequence.blocks[index]->bytes(), block_bytes());
            sequence.blocks[index] = std::move(copy);
        }
    }
}

uint8_t* KvCache::head_data(const Sequence& sequence, int index, int layer, int head) const {
    return sequence.blocks[size_t(index)]->bytes() + size_t(layer * heads_ + head) * head_bytes_;
}

CacheBlockBf16 KvCache::block_bf16(const Sequence& sequence, int index, int layer, int head) const {
    const auto* keys = reinterpret_cast<const uint16_t*>(head_data(sequence, index, layer, head));
    return {keys, keys + size_t(head_dim_) * kBlockKeys};
}

CacheBlockInt8 KvCache::block_int8(const Sequence& sequence, int index, int layer, int head) const {
    const auto* keys = reinterpret_cast<const int8_t*>(head_data(sequence, index, layer, head));
    const int8_t* values = keys + size_t(head_dim_) * kBlockKeys;
    const auto* scales = reinterpret_cast<const uint16_t*>(values + size_t(padded_head_dim_) * kBlockKeys);
    return {keys, values, scales, scales + kBlockKeys};
}

size_t KvCache::value_offset(int in_block) const {
    return size_t(in_block / 2 * 2) * size_t(padded_head_dim_) + size_t(in_block % 2);
}

KvCache::SlotBf16 KvCache::slot_bf16(const Sequence& sequence, int position, int layer, int head) const {
    auto* keys = reinterpret_cast<uint16_t*>(head_data(sequence, position / kBlockKeys, layer, head));
    const int in_block = position % kBlockKeys;
    return {keys + 2 * in_block, keys + size_t(head_dim_) * kBlockKeys + value_offset(in_block)};
}

KvCache::SlotInt8 KvCache::slot_int8(const Sequence& sequence, int position, int layer, int head) const {
    auto* keys = reinterpret_cast<int8_t*>(head_data(sequence, position / kBlockKeys, layer, head));
    const int in_block = position % kBlockKeys;
    int8_t* values = keys + size_t(head_dim_) * kBlockKeys;
    auto* scales = reinterpret_cast<uint16_t*>(values + size_t(padded_head_dim_) * kBlockKeys);
    return {keys + 2 * in_block, values + value_offset(in_block), scales + in_block, scales + kBlockKeys + in_block};
}

}  // namespace empu
