// What a state of a scene says as a code: semhier_ros/scene/remembering.py (`code_of`) says the same in NumPy.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "latents.hpp"
#include "state.hpp"

namespace semhier {
namespace {

/// A model's codes of what states show. numbers: columns, rows, and half of the offsets' symbols. lengths: of sides in
/// cells, of every symbol. sides: every length of a side in 1/256 of a cell, and their symbols. geometry: `SceneStream`'s
/// times, over and less. nodes: of each level below the first. groups: `LatentGroups`.
class ShownCodes {
 public:
  ShownCodes(const std::array<std::int64_t, 3>& numbers, double offset_step, std::vector<double> lengths, Whole sides,
             Whole symbols, const std::array<std::array<std::int64_t, GEOMETRY>, 3>& geometry, Whole nodes,
             const py::list& groups)
      : columns_(numbers[0]), rows_(numbers[1]), half_(numbers[2]), offset_step_(offset_step),
        lengths_(std::move(lengths)), sides_(std::move(sides)), symbols_(std::move(symbols)), geometry_(geometry),
        nodes_(std::move(nodes)), groups_(groups, nodes_) {
    if (columns_ < 1 || rows_ < 1 || sides_.empty() || symbols_.size() != sides_.size())
      throw py::value_error("numbers, sides, symbols: not those of a layout");
    for (const std::int64_t symbol : symbols_)
      if (symbol < 0 || symbol >= static_cast<std::int64_t>(lengths_.size()))
        throw py::value_error("symbols: outside of the lengths");
    for (const std::int64_t over : geometry_[1])
      if (over < 1) throw py::value_error("geometry: divided by less than 1");
  }

  /// Cells, sizes, offsets, scores, for each semantic block after the first which objects it refines, the path level by
  /// level, the latents group by group, boxes, and geometry, of the objects that are not hidden.
  py::tuple code(const Array<std::int64_t>& table) const {
    expect_shape("table", table, {ANY, static_cast<py::ssize_t>(PATH + nodes_.size() + groups_.channels())});
    std::vector<const std::int64_t*> shown;
    for (py::ssize_t row = 0; row < table.shape(0); ++row) {
      const std::int64_t* one = table.data() + row * table.shape(1);
      if (one[HIDDEN] == 0) shown.push_back(one);
    }
    const auto count = static_cast<py::ssize_t>(shown.size());
    Array<std::int32_t> cells(count), sizes({count, py::ssize_t{2}}), offsets({count, py::ssize_t{2}}), scores(count),
        geometry({count, GEOMETRY});
    Array<double> boxes({count, py::ssize_t{4}});
    for (py::ssize_t i = 0; i < count; ++i) {
      const std::int64_t* one = shown[i];
      std::int64_t at[2];
      for (py::ssize_t axis = 0; axis < 2; ++axis) {
        const std::int64_t place = side_place(one[WIDTH + axis], sides_.size()), symbol = symbols_[place];
        const double centre = static_cast<double>(one[X + axis]) / CELL;
        at[axis] = within(static_cast<std::int64_t>(centre), 0, (axis ? rows_ : columns_) - 1);
        const double away = static_cast<double>(static_cast<float>(centre)) - (static_cast<double>(at[axis]) + 0.5);
        const auto half = static_cast<double>(half_);
        const double steps = std::nearbyint(away / (lengths_[symbol] * offset_step_));
        sizes.mutable_data()[2 * i + axis] = static_cast<std::int32_t>(symbol);
        offsets.mutable_data()[2 * i + axis] = static_cast<std::int32_t>(std::min(std::max(steps, -half), half) + half);
        boxes.mutable_data()[4 * i + axis] = centre;
        boxes.mutable_data()[4 * i + 2 + axis] = static_cast<double>(sides_[place]) / CELL;
      }
      cells.mutable_data()[i] = static_cast<std::int32_t>(at[1] * columns_ + at[0]);
      scores.mutable_data()[i] = static_cast<std::int32_t>(one[SCORE]);
      const std::int32_t *size = sizes.data() + 2 * i, *offset = offsets.data() + 2 * i;
      const std::int64_t told[GEOMETRY] = {size[0], size[1], at[1], offset[0], offset[1], one[SCORE]};
      for (py::ssize_t part = 0; part < GEOMETRY; ++part)
        geometry.mutable_data()[GEOMETRY * i + part] = static_cast<std::int32_t>(
            floor_over(told[part] * geometry_[0][part], geometry_[1][part]) - geometry_[2][part]);
    }
    py::list kept, path, latents;
    Array<std::int32_t> first(count);
    std::fill_n(first.mutable_data(), count, 0);
    path.append(first);
    std::vector<Array<std::int32_t>> groups;
    std::size_t column = PATH + nodes_.size();
    for (std::size_t block = 1; block <= groups_.blocks(); ++block) {
      const std::size_t width = groups_.width(block);
      Array<bool> refined(count);
      Array<std::int32_t> group({count, static_cast<py::ssize_t>(width)});
      std::vector<py::ssize_t> expected;
      for (py::ssize_t i = 0; i < count; ++i) {
        const auto depth = static_cast<std::int64_t>(block);
        const bool deep = refined.mutable_data()[i] = std::max(shown[i][NAMED], shown[i][TOLD]) >= depth;
        for (std::size_t channel = 0; channel < width; ++channel)
          group.mutable_data()[i * width + channel] =
              deep ? static_cast<std::int32_t>(shown[i][column + channel]) : 0;
        if (deep && shown[i][TOLD] < depth) expected.push_back(i);
      }
      if (block <= nodes_.size()) {
        Array<std::int32_t> nodes(count);
        for (py::ssize_t i = 0; i < count; ++i)
          nodes.mutable_data()[i] =
              static_cast<std::int32_t>(refined.data()[i] ? shown[i][PATH + block - 1] : UNNAMED);
        path.append(nodes);
      }
      if (width > 0 && !expected.empty()) expect(block, expected, shown, geometry, groups, group.mutable_data());
      kept.append(refined), latents.append(group);
      groups.push_back(group);
      column += width;
    }
    return py::make_tuple(cells, sizes, offsets, scores, kept, path, latents, boxes, geometry);
  }

 private:
  /// Writes the latents of a block that its layers expect of some objects into its group.
  void expect(std::size_t block, const std::vector<py::ssize_t>& objects, const std::vector<const std::int64_t*>& shown,
              const Array<std::int32_t>& geometry, const std::vector<Array<std::int32_t>>& before,
              std::int32_t* group) const {
    const std::size_t width = groups_.width(block);
    groups_.expect(
        block, objects.size(),
        [&](std::size_t place, LatentGroups::Inputs& inputs) {
          const py::ssize_t object = objects[place];
          inputs.put(geometry.data() + GEOMETRY * object, GEOMETRY);
          for (std::size_t level = 0; level < groups_.named(block); ++level)
            inputs.mark(shown[object][PATH + level], nodes_[level]);
          for (const auto& known : before) inputs.put(known.data() + object * known.shape(1), known.shape(1));
        },
        [&](std::size_t place, const std::int16_t* found) {
          std::copy_n(found, width, group + objects[place] * static_cast<py::ssize_t>(width));
        });
  }

  std::int64_t columns_, rows_, half_;
  double offset_step_;
  std::vector<double> lengths_;
  Whole sides_, symbols_;
  std::array<std::array<std::int64_t, GEOMETRY>, 3> geometry_;
  Whole nodes_;
  LatentGroups groups_;
};

/// Columns of a table, one range after another, row by row, as 32-bit numbers, the lowest byte first.
py::bytes columns_as_bytes(const Array<std::int64_t>& table,
                           const std::vector<std::pair<py::ssize_t, py::ssize_t>>& ranges) {
  expect_shape("table", table, {ANY, ANY});
  py::ssize_t columns = 0;
  for (const auto& [first, end] : ranges) {
    if (first < 0 || end < first || end > table.shape(1)) throw py::value_error("ranges: outside of the table");
    columns += end - first;
  }
  std::string found(static_cast<std::size_t>(4 * columns * table.shape(0)), 0);
  char* next = found.data();
  for (const auto& [first, end] : ranges)
    for (py::ssize_t row = 0; row < table.shape(0); ++row)
      for (py::ssize_t column = first; column < end; ++column) {
        const auto value = static_cast<std::uint32_t>(table.data()[row * table.shape(1) + column]);
        for (const int shift : {0, 8, 16, 24}) *next++ = static_cast<char>(value >> shift & 0xFF);
      }
  return py::bytes(found);
}

}  // namespace

void bind_shown(py::module_& module) {
  py::class_<ShownCodes>(module, "ShownCodes")
      .def(py::init<const std::array<std::int64_t, 3>&, double, std::vector<double>, Whole, Whole,
                    const std::array<std::array<std::int64_t, GEOMETRY>, 3>&, Whole, const py::list&>(),
           py::arg("numbers"), py::arg("offset_step"), py::arg("lengths"), py::arg("sides"), py::arg("symbols"),
           py::arg("geometry"), py::arg("nodes"), py::arg("groups"))
      .def("code", &ShownCodes::code, py::arg("table"));
  module.def("columns_as_bytes", &columns_as_bytes, py::arg("table"), py::arg("ranges"));
}

}  // namespace semhier
