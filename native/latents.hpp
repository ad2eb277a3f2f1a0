// What latents of objects are expected to be, by a model's layers: `SceneStream.latent_parameters`.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "integer_layers.hpp"
#include "state.hpp"

namespace semhier {

constexpr py::ssize_t GEOMETRY = 6;
constexpr std::int64_t MARK = 16;  // of a node's name, as `layout.FRACTION`

// The latent groups of semantic blocks 1, 2, …: of each its channels, the layers that expect them (none where there are
// no channels), and their inputs' bound. nodes: of each level below the first.
class LatentGroups {
 public:
  using Group = std::tuple<std::size_t, IntegerLayers, std::int64_t>;

  LatentGroups(const py::list& groups, const Whole& nodes) : kept_(groups), levels_(nodes.size()) {
    std::size_t inputs = GEOMETRY;
    for (const auto& one : groups) {
      groups_.push_back(one.cast<Group>());
      const auto& [width, layers, bound] = groups_.back();
      if (groups_.size() <= nodes.size()) inputs += nodes[groups_.size() - 1];
      if (width > 0) {
        check_layers(layers, inputs);
        if (layers.back()->outputs != 2 * width || bound < 1 || bound > 32767)
          throw py::value_error("groups: layers that do not fit their channels");
      }
      inputs += width, channels_ += width;
    }
    if (groups_.size() < nodes.size()) throw py::value_error("groups: fewer than levels");
  }

  std::size_t blocks() const { return groups_.size(); }
  std::size_t channels() const { return channels_; }
  std::size_t width(std::size_t block) const { return std::get<0>(groups_[block - 1]); }
  // How many levels below the first are named when a block's latents are expected.
  std::size_t named(std::size_t block) const { return std::min(block, levels_); }

  // What is told of one object, in order: geometry, a mark for each level named, latents of the blocks before.
  class Inputs {
   public:
    Inputs(std::int16_t* next, std::int16_t* end, std::int64_t bound) : next_(next), end_(end), bound_(bound) {}

    void put(const std::int32_t* values, std::size_t number) {
      make_room(number);
      for (std::size_t place = 0; place < number; ++place)
        *next_++ = static_cast<std::int16_t>(within(values[place], -bound_, bound_));
    }

    void mark(std::int64_t node, std::int64_t nodes) {
      if (node < 0 || node >= nodes) throw py::value_error("path: no such node");
      make_room(static_cast<std::size_t>(nodes));
      next_[node] = static_cast<std::int16_t>(std::min(MARK, bound_));
      next_ += nodes;
    }

   private:
    void make_room(std::size_t number) const {
      if (static_cast<std::size_t>(end_ - next_) < number) throw py::value_error("latents: more than their layers take");
    }

    std::int16_t *next_, *end_;
    std::int64_t bound_;
  };

  // Hands `found(place, outputs)` what the layers of a block with channels give for each of `count` objects, of which
  // `told(place, inputs)` says what is known.
  template <class Told, class Found>
  void expect(std::size_t block, std::size_t count, const Told& told, const Found& found) const {
    const auto& [width, layers, bound] = groups_[block - 1];
    const std::size_t inputs = layers.front()->inputs, pitch = even(inputs), outputs = layers.back()->outputs;
    std::vector<std::int16_t> rows(std::min(LayerRun::ROWS, count) * pitch);
    LayerRun run(layers);
    for (std::size_t begin = 0; begin < count; begin += LayerRun::ROWS) {
      const std::size_t some = std::min(LayerRun::ROWS, count - begin);
      std::fill(rows.begin(), rows.end(), std::int16_t{0});
      for (std::size_t row = 0; row < some; ++row) {
        std::int16_t* const own = rows.data() + row * pitch;
        Inputs known(own, own + inputs, bound);
        told(begin + row, known);
      }
      const std::int16_t* out = run(rows.data(), pitch, some);
      for (std::size_t row = 0; row < some; ++row) found(begin + row, out + row * outputs);
    }
  }

 private:
  py::list kept_;  // what the layers are owned by
  std::vector<Group> groups_;
  std::size_t levels_, channels_ = 0;
};

}  // namespace semhier
