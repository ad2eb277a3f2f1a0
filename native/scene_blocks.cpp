// The semantic blocks of a scene, read symbol by symbol: `SceneStream.decode` says the same in Python.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "latents.hpp"
#include "range_coder.hpp"
#include "state.hpp"

namespace semhier {
namespace {

constexpr std::int64_t UNIT_STEP = 16, MOST_LATENT = 4095;

using Numbers = std::vector<std::int64_t>;
using Symbols = std::vector<std::int32_t>;

/// Symbols of one block as they come, and what they cost in bits, how many there are, and how many are not 0.
class SymbolReader {
 public:
  explicit SymbolReader(RangeDecoder& coder) : coder_(coder) {}

  Symbols get(const RangeTables& tables, const Numbers& rows) {
    Symbols found(rows.size());
    bits_ += coder_.get(tables, rows.data(), rows.size(), found.data());
    count_ += static_cast<std::int64_t>(rows.size());
    others_ += static_cast<std::int64_t>(found.size()) - std::count(found.begin(), found.end(), 0);
    return found;
  }
  std::int32_t one(const RangeTables& tables, std::int64_t row) { return get(tables, {row})[0]; }

  py::tuple with(const py::object& found) const { return py::make_tuple(found, bits_, count_, others_); }

 private:
  RangeDecoder& coder_;
  double bits_ = 0.0;
  std::int64_t count_ = 0, others_ = 0;
};

/// What a model's semantic blocks are read by. tables: by name, as the coder has them. numbers: columns, rows, most
/// objects, and half of the offsets' symbols. count_edges: of the layout. occupancy_rows: classes of counts x cells.
/// sides: lengths in cells of every symbol. geometry: `SceneStream`'s times, over and less. children: of each level
/// below the first, of each node of the level above. groups: `LatentGroups`.
class SceneBlocks {
 public:
  using Children = std::vector<std::vector<std::int32_t>>;

  SceneBlocks(const py::dict& tables, const std::array<std::int64_t, 4>& numbers, Numbers count_edges,
              Array<std::int64_t> occupancy_rows, double offset_step, std::vector<double> sides,
              const std::array<std::array<std::int64_t, GEOMETRY>, 3>& geometry, std::vector<Children> children,
              const py::list& groups)
      : kept_(tables), count_(table("count")), occupancy_(table("occupancy")), width_(table("width")),
        height_(table("height")), offset_x_(table("offset_x")), offset_y_(table("offset_y")), score_(table("score")),
        columns_(numbers[0]), rows_(numbers[1]), most_(numbers[2]), half_(numbers[3]),
        count_edges_(std::move(count_edges)), occupancy_rows_(std::move(occupancy_rows)), offset_step_(offset_step),
        sides_(std::move(sides)), geometry_(geometry), children_(std::move(children)), nodes_(below(children_)),
        groups_(groups, nodes_) {
    if (columns_ < 1 || rows_ < 1 || sides_.empty()) throw py::value_error("numbers, sides: not those of a layout");
    expect_shape("occupancy_rows", occupancy_rows_,
                 {static_cast<py::ssize_t>(count_edges_.size()) + 1, static_cast<py::ssize_t>(columns_ * rows_)});
    for (const std::int64_t over : geometry_[1])
      if (over < 1) throw py::value_error("geometry: divided by less than 1");
    if (std::max(width_->alphabet, height_->alphabet) > symbols()) throw py::value_error("sides: fewer than symbols");
    for (std::size_t level = 0; level < children_.size(); ++level) {
      names_.push_back(table("name_" + std::to_string(level + 1)));
      for (const auto& some : children_[level])
        for (const std::int32_t node : some)
          if (node < 0 || node >= nodes_[level]) throw py::value_error("children: no such node");
    }
    if (groups_.blocks() > 0) whole_ = table("whole"), flags_ = table("kept");
    if (groups_.channels() > 0) latents_ = table("latents");
  }

  /// Block 0: cells, sizes, offsets, scores and feet of the objects, their boxes and their geometry. feet: by what feet
  /// are read, None where there are none; nor are there any of no objects.
  py::tuple objects(RangeDecoder& coder, const RangeTables* feet) const {
    SymbolReader reader(coder);
    const std::int32_t kind = reader.one(*count_, 0);
    Numbers at;
    if (kind != 0) {
      if (kind < 0 || kind >= occupancy_rows_.shape(0))
        throw std::overflow_error("count class " + std::to_string(kind) + ": outside 0.." +
                                  std::to_string(occupancy_rows_.shape(0) - 1));
      const std::int64_t* rows = occupancy_rows_.data() + kind * columns_ * rows_;
      const Symbols occupied = reader.get(*occupancy_, Numbers(rows, rows + columns_ * rows_));
      for (std::size_t cell = 0; cell < occupied.size(); ++cell)
        if (occupied[cell] != 0) at.push_back(static_cast<std::int64_t>(cell));
      const auto count = static_cast<std::int64_t>(at.size());
      const auto above = std::upper_bound(count_edges_.begin(), count_edges_.end(), count);
      if (count > most_ || above - count_edges_.begin() != kind)
        throw std::overflow_error(std::to_string(count) + " objects do not fit count class " + std::to_string(kind));
    }
    Numbers bands;
    for (const std::int64_t cell : at) bands.push_back(band_row(cell, columns_, rows_));
    const auto as_rows = [](const Symbols& symbols) { return Numbers(symbols.begin(), symbols.end()); };
    std::array<Symbols, 2> size, offset;
    size[0] = reader.get(*width_, bands);
    size[1] = reader.get(*height_, as_rows(size[0]));
    offset[0] = reader.get(*offset_x_, as_rows(size[0]));
    offset[1] = reader.get(*offset_y_, as_rows(size[1]));
    const Symbols score = reader.get(*score_, as_rows(size[0]));
    const auto count = static_cast<py::ssize_t>(at.size());
    Array<std::int32_t> cells(count), sizes({count, py::ssize_t{2}}), offsets({count, py::ssize_t{2}}), scores(count),
        geometry({count, GEOMETRY});
    Array<double> boxes({count, py::ssize_t{4}});
    for (py::ssize_t i = 0; i < count; ++i) {
      const std::int64_t place[2] = {at[i] % columns_, at[i] / columns_};
      cells.mutable_data()[i] = static_cast<std::int32_t>(at[i]);
      scores.mutable_data()[i] = score[i];
      for (std::size_t axis = 0; axis < 2; ++axis) {
        sizes.mutable_data()[2 * i + axis] = size[axis][i];
        offsets.mutable_data()[2 * i + axis] = offset[axis][i];
        const double side = sides_[size[axis][i]], away = static_cast<double>(offset[axis][i] - half_) * side;
        boxes.mutable_data()[4 * i + axis] = away * offset_step_ + (static_cast<double>(place[axis]) + 0.5);
        boxes.mutable_data()[4 * i + 2 + axis] = side;
      }
      const std::int64_t told[GEOMETRY] = {size[0][i], size[1][i], place[1], offset[0][i], offset[1][i], score[i]};
      for (py::ssize_t part = 0; part < GEOMETRY; ++part)
        geometry.mutable_data()[GEOMETRY * i + part] = static_cast<std::int32_t>(
            floor_over(told[part] * geometry_[0][part], geometry_[1][part]) - geometry_[2][part]);
    }
    py::object stand = py::none();
    if (feet != nullptr && kind != 0) {
      Array<std::int32_t> found(count);
      const Symbols symbols = reader.get(*feet, Numbers(at.size(), 0));
      std::copy(symbols.begin(), symbols.end(), found.mutable_data());
      stand = found;
    }
    return reader.with(py::make_tuple(cells, sizes, offsets, scores, stand, boxes, geometry));
  }

  /// A semantic block after the first: which objects it refines, their nodes at its level (None where it names none),
  /// and their latents. before: which of them the block before refined, None after block 0.
  py::tuple refined(RangeDecoder& coder, std::size_t block, const std::optional<Array<bool>>& before,
                    const Array<std::int32_t>& sizes, const Array<std::int32_t>& geometry,
                    const std::vector<Array<std::int32_t>>& path,
                    const std::vector<Array<std::int32_t>>& latents) const {
    if (block < 1 || block > groups_.blocks() || latents.size() != block - 1 ||
        path.size() != std::min(block, children_.size() + 1))
      throw py::value_error("block: path or latents of another one's");
    expect_shape("sizes", sizes, {ANY, 2});
    const py::ssize_t count = sizes.shape(0);
    expect_shape("geometry", geometry, {count, GEOMETRY});
    if (before) expect_shape("before", *before, {count});
    for (const auto& level : path) expect_shape("path", level, {count});
    for (std::size_t group = 0; group < latents.size(); ++group)
      expect_shape("latents", latents[group], {count, static_cast<py::ssize_t>(groups_.width(group + 1))});
    SymbolReader reader(coder);
    const std::vector<py::ssize_t> kept = which(reader, block, before, sizes);
    Array<bool> flags(count);
    std::fill_n(flags.mutable_data(), count, false);
    for (const py::ssize_t object : kept) flags.mutable_data()[object] = true;
    py::object named = py::none();
    std::vector<Array<std::int32_t>> deeper = path;
    if (block <= children_.size()) {
      deeper.push_back(names(reader, block, kept, sizes, path[block - 1]));
      named = deeper.back();
    }
    return reader.with(py::make_tuple(flags, named, group(reader, block, kept, geometry, deeper, latents)));
  }

 private:
  static Whole below(const std::vector<Children>& children) {
    Whole found;
    for (const auto& level : children) {
      std::size_t nodes = 0;
      for (const auto& some : level) nodes += some.size();
      found.push_back(static_cast<std::int64_t>(nodes));
    }
    return found;
  }

  const RangeTables* table(const std::string& name) const { return &kept_[py::str(name)].cast<const RangeTables&>(); }

  /// The symbols of an object's sides.
  static std::pair<std::int64_t, std::int64_t> size(const Array<std::int32_t>& sizes, py::ssize_t object) {
    return {sizes.data()[2 * object], sizes.data()[2 * object + 1]};
  }
  std::int64_t symbols() const { return static_cast<std::int64_t>(sides_.size()); }

  std::vector<py::ssize_t> which(SymbolReader& reader, std::size_t block, const std::optional<Array<bool>>& before,
                                 const Array<std::int32_t>& sizes) const {
    std::vector<py::ssize_t> may, kept;
    for (py::ssize_t object = 0; object < sizes.shape(0); ++object)
      if (!before || before->data()[object]) may.push_back(object);
    if (may.empty() || reader.one(*whole_, static_cast<std::int64_t>(block) - 1) != 0) return may;
    Numbers areas;
    for (const py::ssize_t object : may) {
      const auto [across, down] = size(sizes, object);
      areas.push_back(area_row(across, down, symbols()));
    }
    const Symbols told = reader.get(*flags_, areas);
    for (std::size_t place = 0; place < may.size(); ++place)
      if (told[place] > 0) kept.push_back(may[place]);
    if (kept.size() == may.size())
      throw std::overflow_error("every object flagged one by one, which the symbol before says");
    return kept;
  }

  Array<std::int32_t> names(SymbolReader& reader, std::size_t level, const std::vector<py::ssize_t>& kept,
                            const Array<std::int32_t>& sizes, const Array<std::int32_t>& above) const {
    const Children& children = children_[level - 1];
    Numbers rows;
    for (const py::ssize_t object : kept) {
      const std::int64_t parent = above.data()[object];
      if (parent < 0 || parent >= static_cast<std::int64_t>(children.size()))
        throw py::value_error("path: no such node");
      const auto [across, down] = size(sizes, object);
      rows.push_back(name_row(parent, across, down, symbols()));
    }
    const Symbols told = reader.get(*names_[level - 1], rows);
    Array<std::int32_t> found(sizes.shape(0));
    std::fill_n(found.mutable_data(), found.size(), static_cast<std::int32_t>(UNNAMED));
    for (std::size_t place = 0; place < kept.size(); ++place) {
      const auto& own = children[above.data()[kept[place]]];
      if (static_cast<std::size_t>(told[place]) >= own.size())
        throw std::overflow_error("child " + std::to_string(told[place]) + " of a node with " +
                                  std::to_string(own.size()));
      found.mutable_data()[kept[place]] = own[told[place]];
    }
    return found;
  }

  Array<std::int32_t> group(SymbolReader& reader, std::size_t block, const std::vector<py::ssize_t>& kept,
                            const Array<std::int32_t>& geometry, const std::vector<Array<std::int32_t>>& path,
                            const std::vector<Array<std::int32_t>>& latents) const {
    const std::size_t width = groups_.width(block);
    Array<std::int32_t> found({geometry.shape(0), static_cast<py::ssize_t>(width)});
    std::fill_n(found.mutable_data(), found.size(), 0);
    if (width == 0) return found;
    const RangeTables& tables = *latents_;
    Numbers rows(kept.size() * width);
    std::vector<std::int64_t> means(rows.size());
    groups_.expect(
        block, kept.size(),
        [&](std::size_t place, LatentGroups::Inputs& inputs) {
          const py::ssize_t object = kept[place];
          inputs.put(geometry.data() + GEOMETRY * object, GEOMETRY);
          for (std::size_t level = 0; level < groups_.named(block); ++level)
            inputs.mark(path[level + 1].data()[object], nodes_[level]);
          for (const auto& known : latents) inputs.put(known.data() + object * known.shape(1), known.shape(1));
        },
        [&](std::size_t place, const std::int16_t* out) {
          for (std::size_t channel = 0; channel < width; ++channel) {
            means[place * width + channel] = out[channel];
            rows[place * width + channel] =
                within((std::int64_t{out[width + channel]} + UNIT_STEP / 2) >> 4, 0, tables.rows - 1);
          }
        });
    const Symbols told = reader.get(tables, rows);
    for (std::size_t place = 0; place < told.size(); ++place) {
      const std::int64_t value = (told[place] - (tables.alphabet - 1) / 2) * UNIT_STEP + means[place];
      if (std::abs(value) > MOST_LATENT)
        throw std::overflow_error("latent " + std::to_string(value) + "/16: outside -4095..4095 sixteenths");
      found.mutable_data()[kept[place / width] * static_cast<py::ssize_t>(width) + place % width] =
          static_cast<std::int32_t>(value);
    }
    return found;
  }

  py::dict kept_;  // what the tables are owned by
  const RangeTables *count_, *occupancy_, *width_, *height_, *offset_x_, *offset_y_, *score_, *whole_ = nullptr,
      *flags_ = nullptr, *latents_ = nullptr;
  std::int64_t columns_, rows_, most_, half_;
  Numbers count_edges_;
  Array<std::int64_t> occupancy_rows_;
  double offset_step_;
  std::vector<double> sides_;
  std::array<std::array<std::int64_t, GEOMETRY>, 3> geometry_;
  std::vector<Children> children_;
  Whole nodes_;
  LatentGroups groups_;
  std::vector<const RangeTables*> names_;
};

}  // namespace

void bind_scene_blocks(py::module_& module) {
  py::class_<SceneBlocks>(module, "SceneBlocks")
      .def(py::init<const py::dict&, const std::array<std::int64_t, 4>&, Numbers, Array<std::int64_t>, double,
                    std::vector<double>, const std::array<std::array<std::int64_t, GEOMETRY>, 3>&,
                    std::vector<SceneBlocks::Children>, const py::list&>(),
           py::arg("tables"), py::arg("numbers"), py::arg("count_edges"), py::arg("occupancy_rows"),
           py::arg("offset_step"), py::arg("sides"), py::arg("geometry"), py::arg("children"), py::arg("groups"))
      .def("objects", &SceneBlocks::objects, py::arg("coder"), py::arg("feet"))
      .def("refined", &SceneBlocks::refined, py::arg("coder"), py::arg("block"), py::arg("before"), py::arg("sizes"),
           py::arg("geometry"), py::arg("path"), py::arg("latents"));
}

}  // namespace semhier
