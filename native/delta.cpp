// A delta of a scene (docs/bitstream.md, "Delta"), symbol by symbol, and the state after it: semhier_ros/scene/memory.py
// says the same in Python.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "range_coder.hpp"
#include "state.hpp"

namespace semhier {
namespace {

using Pair = std::array<std::int64_t, 2>;

constexpr std::int64_t HIDDEN_MS = 1000, REACH = 63, MOST_VELOCITY = 64 * CELL;
constexpr std::int64_t FLAG_ROWS = 64, FLAG_SHIFT = 4, LEAST_FLAG = 512, MOST_FLAG = 65535 - 512;
constexpr std::int64_t SCALE_ROWS = 24, SCALE_SHIFT = 3, LEAST_SCALE = 2;
constexpr std::int64_t PANS = 0, TOUCHED = 1, BACK = 13, HIDES = 16, MOVED = 20, MOVED_BACK = 21, LABELLED = 22,
                       STEERED = 26, BORN = 27, RENAMED = 28, DEEPER = 30, FAR = 31, KINDS = 32;
constexpr std::int64_t SPEED_ROW = 7, FAR_ROW = 4, SCORE_CLASSES = 4, WITH_NAME = 0, WITH_PLACE = 1, ALONE = 2;

constexpr const char* ONE = ", expected one at least that is not 0";

/// What no encoder says: `memory._refused`.
[[noreturn]] void refuse(const std::string& what) { throw std::overflow_error(what); }

/// As Python writes a list.
std::string listed(const Whole& values) {
  std::string found;
  for (const std::int64_t value : values) found += (found.empty() ? "" : ", ") + std::to_string(value);
  return "[" + found + "]";
}

std::string object(std::size_t row) { return "object " + std::to_string(row) + ": "; }

/// `memory.split_shift`.
Pair split_shift(std::int64_t shift) {
  const std::int64_t far = floor_over(shift + REACH / 2, REACH);
  return {far, shift - REACH * far};
}

std::int64_t scale_row(std::int64_t scale) {
  std::int64_t row = 0;
  while (row < SCALE_ROWS - 1 && (row + 1) * (row + 2) <= scale) ++row;
  return row;
}

/// What every delta of a model is coded with: tables by name, and what `DeltaCodec` works out of the layout.
struct DeltaTables {
  const RangeTables *flag, *residual, *score_change, *more, *cells, *width, *height, *offset_x, *offset_y, *score, *depth = nullptr;
  std::vector<const RangeTables*> names;  // of each level below the first
  py::dict kept;
  std::int64_t columns, rows, most_objects, most_score, offset_step, half_offsets, latents;
  Whole logs, middles, sides;
  std::vector<std::vector<Whole>> children;  // of each level below the first those of every node above
  std::vector<Whole> places;                 // of each level below the first where a node stands among its siblings

  DeltaTables(const py::dict& tables, const std::array<std::int64_t, 7>& numbers, Whole log_sizes, Whole middle_logs,
              Whole side_lengths, std::vector<std::vector<Whole>> children_, std::vector<Whole> places_)
      : kept(tables),
        logs(std::move(log_sizes)),
        middles(std::move(middle_logs)),
        sides(std::move(side_lengths)),
        children(std::move(children_)),
        places(std::move(places_)) {
    columns = numbers[0], rows = numbers[1], most_objects = numbers[2], most_score = numbers[3];
    offset_step = numbers[4], half_offsets = numbers[5], latents = numbers[6];
    const auto table = [&](const std::string& name) { return tables[py::str(name)].cast<const RangeTables*>(); };
    flag = table("flag"), residual = table("residual"), more = table("more"), cells = table("cells");
    score_change = table("score_change");
    width = table("width"), height = table("height"), offset_x = table("offset_x"), offset_y = table("offset_y");
    score = table("score");
    if (!children.empty()) depth = table("depth");
    for (std::size_t level = 1; level <= children.size(); ++level) names.push_back(table("name_" + std::to_string(level)));
    const auto sizes = static_cast<py::ssize_t>(logs.size());
    if (columns < 1 || rows < 1 || latents < 0 || cells->alphabet != columns * rows || width->alphabet > sizes ||
        height->alphabet > sizes || sides.empty() || places.size() != children.size())
      throw py::value_error("tables: not those of this layout");
  }

  std::size_t levels() const { return children.size(); }  // below the first
  std::size_t state_width() const { return PATH + levels() + static_cast<std::size_t>(latents); }  // of a state's table

  /// `memory._side`.
  std::int64_t side(std::int64_t log) const { return sides[side_place(log, sides.size())]; }

  std::int64_t most_log() const {
    return LEAST_LOG + static_cast<std::int64_t>(sides.size()) / LOGS_PER_SIDE * 1024;
  }

  std::int64_t size_of(std::int64_t log) const {
    return std::upper_bound(middles.begin(), middles.end(), log) - middles.begin();
  }

  const Whole& below(std::size_t level, std::int64_t parent) const {
    const auto& nodes = children[level - 1];
    if (parent < 0 || parent >= static_cast<std::int64_t>(nodes.size())) throw py::value_error("path: no such node");
    return nodes[parent];
  }

  std::int64_t place(std::size_t level, std::int64_t node) const {
    const auto& every = places[level - 1];
    if (node < 0 || node >= static_cast<std::int64_t>(every.size())) throw py::value_error("path: no such node");
    return every[node];
  }
};

/// Whole numbers, or lists of them, of Python's lists: read in place, for to have them converted costs more than all that
/// is done with them.
void read_list(const py::handle& item, std::int64_t& value) {
  value = PyLong_AsLongLong(item.ptr());
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
}

template <class List>
void read_list(const py::handle& items, List& values) {
  const auto fast = py::reinterpret_steal<py::object>(PySequence_Fast(items.ptr(), "said: a list expected"));
  if (!fast) throw py::error_already_set();
  const auto size = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast.ptr()));
  if constexpr (std::is_same_v<List, std::vector<typename List::value_type>>) values.resize(size);
  if (size != values.size()) throw py::value_error("said: a list of " + std::to_string(size) + " numbers");
  for (std::size_t place = 0; place < size; ++place)
    read_list(PySequence_Fast_GET_ITEM(fast.ptr(), static_cast<py::ssize_t>(place)), values[place]);
}

/// `memory.Said`, its reference apart.
struct Said {
  std::int64_t pans = 0;
  Pair shift{};
  Whole touched, toggled, moved, steered, labelled, score, renamed, named;
  std::vector<Pair> place, size, speed;
  std::vector<Whole> path;
  std::vector<std::array<std::int64_t, 6>> born;
  std::vector<Whole> born_path;

  /// That `count` objects are as foretold; nothing of their names.
  explicit Said(std::size_t count)
      : touched(count), toggled(count), moved(count), steered(count), labelled(count), score(count), renamed(count),
        named(count), place(count), size(count), speed(count), path(count) {}

  /// Of a Python object with these fields.
  Said(const py::object& said, std::size_t count, std::size_t levels) : Said(count) {
    const auto take = [&](const char* name, auto& field) {
      read_list(said.attr(name), field);
      if (field.size() != count) throw py::value_error(std::string(name) + ": not one for each object");
    };
    take("touched", touched), take("toggled", toggled), take("moved", moved), take("steered", steered);
    take("labelled", labelled), take("score", score), take("renamed", renamed), take("named", named);
    take("place", place), take("size", size), take("speed", speed), take("path", path);
    pans = said.attr("pans").cast<std::int64_t>();
    read_list(said.attr("shift"), shift);
    read_list(said.attr("born"), born);
    read_list(said.attr("born_path"), born_path);
    if (born.size() != born_path.size()) throw py::value_error("born_path: not one for each new object");
    for (const auto* paths : {&path, &born_path})
      for (const Whole& one : *paths)
        if (one.size() != levels) throw py::value_error("path: not a node for each level");
  }
};

/// Puts what is said.
struct DeltaWriter {
  RangeEncoder& coder;
  void code(const RangeTables& tables, const Whole& rows, Whole& values) {
    coder.put(tables, values.data(), rows.data(), values.size());
  }
};

/// Reads what was said. bits: what it cost; others: how much of it is no 0.
struct DeltaReader {
  RangeDecoder& coder;
  double bits = 0.0;
  std::int64_t others = 0;
  void code(const RangeTables& tables, const Whole& rows, Whole& values) {
    std::vector<std::int32_t> found(rows.size());
    bits += coder.get(tables, rows.data(), rows.size(), found.data());
    values.assign(found.begin(), found.end());
    others += std::count_if(found.begin(), found.end(), [](std::int32_t value) { return value != 0; });
  }
};

/// The state's objects that are still remembered, `hidden` grown: `memory.Held`.
struct Remembered {
  std::size_t width, count = 0;
  Whole table;

  Remembered(const Array<std::int64_t>& state, std::int64_t elapsed) : width(state.shape(1)) {
    for (py::ssize_t row = 0; row < state.shape(0); ++row) {
      const std::int64_t* one = state.data() + row * state.shape(1);
      const std::int64_t hidden = one[HIDDEN] ? one[HIDDEN] + elapsed : 0;
      if (hidden > HIDDEN_MS) continue;
      table.insert(table.end(), one, one + width);
      at(count++)[HIDDEN] = hidden;
    }
  }

  std::size_t size() const { return count; }
  std::int64_t* at(std::size_t row) { return table.data() + row * width; }
  const std::int64_t* at(std::size_t row) const { return table.data() + row * width; }
};

/// One way through a delta's symbols, the same for writing what is `told` and for reading; flags learn as they go by.
template <class Coder>
class DeltaWalk {
 public:
  DeltaWalk(const DeltaTables& tables, Coder& io, Remembered& held, const Pair& camera, const Whole& flags,
            const Whole& scales, std::int64_t elapsed, const Said* told)
      : tables_(tables), io_(io), held_(held), camera_(camera), flags_(flags), elapsed_(elapsed), told_(told),
        learned_(flags), scales_(scales), seen_(KINDS), said_(held.size()) {
    for (std::size_t row = 0; row < held_.size(); ++row) {
      said_.named[row] = held_.at(row)[NAMED];
      said_.path[row].assign(held_.at(row) + PATH, held_.at(row) + PATH + tables.levels());
    }
    camera_moves();
    touched();
    motion();
    labels();
    births();
    names();
  }

  /// The state's table, flags, scales, and the picture's motion.
  py::tuple after() {
    Pair shift;
    for (std::size_t axis = 0; axis < 2; ++axis)
      shift[axis] = said_.shift[axis] * SHIFT_STEP + (said_.pans * camera_[axis] * elapsed_ >> 10);
    const std::size_t kept = held_.size(), born = said_.born.size(), width = held_.width;
    for (std::size_t row = 0; row < kept; ++row) {
      if (said_.touched[row]) change(row, shift);
      else let_be(row, shift);
      std::int64_t* one = held_.at(row);
      one[NAMED] = said_.named[row];
      std::copy(said_.path[row].begin(), said_.path[row].end(), one + PATH);
      if (said_.renamed[row] == 2) one[TOLD] = 0, std::fill(latents_of(one), one + width, 0);
    }
    for (std::size_t row = 0; row < kept; ++row) {
      if (!said_.moved[row]) continue;
      for (std::size_t axis = 0; axis < 2; ++axis) {
        learn(axis, said_.place[row][axis]);
        learn(2 + axis, said_.size[row][axis]);
      }
    }
    for (const std::int64_t value : said_.shift) learn(4, split_shift(value)[1]);
    for (std::int64_t& scale : scales_) scale = within(scale, LEAST_SCALE, 16 * REACH);
    for (std::int64_t kind = 0; kind < KINDS; ++kind)
      if (seen_[kind]) learned_[kind] = within(learned_[kind], LEAST_FLAG, MOST_FLAG);
    Array<std::int64_t> table({kept + born, width});
    std::copy(held_.table.begin(), held_.table.end(), table.mutable_data());
    for (std::size_t row = 0; row < born; ++row) place_new(row, table.mutable_data() + (kept + row) * width);
    Pair speed;
    for (std::size_t axis = 0; axis < 2; ++axis)
      speed[axis] = within(floor_over(shift[axis] * 1024, elapsed_), -MOST_VELOCITY, MOST_VELOCITY);
    return py::make_tuple(table, py::tuple(py::cast(learned_)), py::tuple(py::cast(scales_)), speed);
  }

 private:
  // -- symbols ----------------------------------------------------------------------------------------------------

  Whole flags(const Whole& kinds, Whole values) {
    Whole rows(kinds.size());
    for (std::size_t place = 0; place < kinds.size(); ++place) rows[place] = flags_[kinds[place]] * FLAG_ROWS >> 16;
    io_.code(*tables_.flag, rows, values);
    for (std::size_t place = 0; place < kinds.size(); ++place) {
      std::int64_t& flag = learned_[kinds[place]];
      flag += (values[place] * 65536 - flag) >> FLAG_SHIFT;
      seen_[kinds[place]] = true;
    }
    return values;
  }

  std::int64_t flag(std::int64_t kind, bool value) { return flags({kind}, {value})[0]; }

  /// Flags of these rows in one field of what is said.
  void flags(const Whole& kinds, const Rows& rows, Whole Said::*field) {
    put(rows, flags(kinds, told(rows, field)), field);
  }

  void flags(std::int64_t kind, const Rows& rows, Whole Said::*field) { flags(Whole(rows.size(), kind), rows, field); }

  Whole residuals(const RangeTables& tables, const Whole& rows, Whole values) {
    for (std::int64_t& value : values) value += REACH;
    io_.code(tables, rows, values);
    for (std::int64_t& value : values) value -= REACH;
    return values;
  }

  Whole residuals(std::int64_t row, const Whole& values) {
    return residuals(*tables_.residual, Whole(values.size(), row), values);
  }

  Whole told(const Rows& rows, Whole Said::*field) const {
    Whole values(rows.size());
    for (std::size_t place = 0; told_ && place < rows.size(); ++place) values[place] = (told_->*field)[rows[place]];
    return values;
  }

  void put(const Rows& rows, const Whole& values, Whole Said::*field) {
    for (std::size_t place = 0; place < rows.size(); ++place) (said_.*field)[rows[place]] = values[place];
  }

  Rows rows_with(const Whole& field) const {
    Rows rows;
    for (std::size_t row = 0; row < field.size(); ++row)
      if (field[row]) rows.push_back(row);
    return rows;
  }

  // -- what a delta says, in the order of its symbols -------------------------------------------------------------

  void camera_moves() {
    if (camera_[0] || camera_[1]) said_.pans = flag(PANS, told_ && told_->pans);
    Whole steps(2), rest(2);
    for (std::size_t axis = 0; told_ && axis < 2; ++axis) {
      const Pair parts = split_shift(told_->shift[axis]);
      steps[axis] = parts[0], rest[axis] = parts[1];
    }
    const bool far = flag(FAR, steps[0] || steps[1]);
    if (far) steps = residuals(FAR_ROW, steps);
    rest = residuals(scale_row(scales_[4]), rest);
    if (far && !steps[0] && !steps[1])
      refuse("the picture: moved far by 0 and 0 steps of " + std::to_string(REACH) + ONE);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      if (std::abs(rest[axis]) > REACH / 2)
        refuse("the picture: moved by " + std::to_string(rest[axis]) + " besides, expected " +
               std::to_string(-(REACH / 2)) + " to " + std::to_string(REACH / 2));
      said_.shift[axis] = REACH * steps[axis] + rest[axis];
    }
  }

  bool shown(std::size_t row) const { return held_.at(row)[HIDDEN] == 0; }

  std::int64_t score_class(std::size_t row) const {
    return within(held_.at(row)[SCORE] * SCORE_CLASSES / (tables_.most_score + 1), 0, SCORE_CLASSES - 1);
  }

  /// A kind for the score class of each of these.
  Whole by_score(std::int64_t kind, const Rows& rows) const {
    Whole kinds;
    for (const std::size_t row : rows) kinds.push_back(kind + score_class(row));
    return kinds;
  }

  void touched() {
    const std::int64_t age = (elapsed_ >= 250) + (elapsed_ >= 500);
    Whole kinds(held_.size());
    Rows every(held_.size()), seen, unhidden, asked;
    for (std::size_t row = 0; row < held_.size(); ++row) {
      const std::int64_t hidden = held_.at(row)[HIDDEN];
      every[row] = row;
      kinds[row] = hidden ? BACK + (hidden >= elapsed_ + 100) + (hidden >= elapsed_ + 400)
                          : TOUCHED + 3 * score_class(row) + age;
    }
    flags(kinds, every, &Said::touched);
    const Rows touched = rows_with(said_.touched);
    std::copy_if(touched.begin(), touched.end(), std::back_inserter(seen), [&](auto row) { return shown(row); });
    flags(by_score(HIDES, seen), seen, &Said::toggled);
    kinds.clear();
    for (const std::size_t row : touched) {
      if (!shown(row)) said_.toggled[row] = 1;
      else if (said_.toggled[row]) continue;
      unhidden.push_back(row);
      kinds.push_back(shown(row) ? MOVED : MOVED_BACK);
    }
    flags(kinds, unhidden, &Said::moved);
    for (const std::size_t row : unhidden) {
      if (shown(row) && !said_.moved[row]) said_.labelled[row] = 1;
      else asked.push_back(row);
    }
    flags(by_score(LABELLED, asked), asked, &Said::labelled);
  }

  void motion() {
    const Rows rows = rows_with(said_.moved);
    flags(STEERED, rows, &Said::steered);
    const Rows steered = rows_with(said_.steered);
    Whole speeds;
    for (const std::size_t row : steered)
      for (std::size_t axis = 0; axis < 2; ++axis) speeds.push_back(told_ ? told_->speed[row][axis] : 0);
    speeds = residuals(SPEED_ROW, speeds);
    for (std::size_t place = 0; place < steered.size(); ++place) {
      said_.speed[steered[place]] = {speeds[2 * place], speeds[2 * place + 1]};
      if (!speeds[2 * place] && !speeds[2 * place + 1])
        refuse(object(steered[place]) + "velocity changes by 0 and 0" + ONE);
    }
    for (std::size_t part = 0; part < 4; ++part) {
      const auto field = part < 2 ? &Said::place : &Said::size;
      Whole values(rows.size());
      for (std::size_t place = 0; told_ && place < rows.size(); ++place)
        values[place] = (told_->*field)[rows[place]][part % 2];
      values = residuals(scale_row(scales_[part]), values);
      for (std::size_t place = 0; place < rows.size(); ++place) (said_.*field)[rows[place]][part % 2] = values[place];
    }
    for (const std::size_t row : rows) {
      const Pair &place = said_.place[row], &size = said_.size[row];
      if (!place[0] && !place[1] && !size[0] && !size[1] && !said_.steered[row])
        refuse(object(row) + "place and size change by 0, and its velocity does not" + ONE);
    }
  }

  void labels() {
    const Rows rows = rows_with(said_.labelled);
    const Whole wanted = told(rows, &Said::renamed);
    if (tables_.levels()) {
      Whole kinds, renamed;
      for (std::size_t place = 0; place < rows.size(); ++place) {
        kinds.push_back(RENAMED + said_.moved[rows[place]]);
        renamed.push_back(wanted[place] > 0);
      }
      renamed = flags(kinds, renamed);
      for (std::size_t place = 0; place < rows.size(); ++place) said_.renamed[rows[place]] = 2 * renamed[place];
    }
    Rows could;
    Whole deeper, beside;
    for (std::size_t place = 0; place < rows.size(); ++place) {
      const std::size_t row = rows[place];
      beside.push_back(said_.renamed[row] ? WITH_NAME : said_.moved[row] || said_.toggled[row] ? WITH_PLACE : ALONE);
      if (!said_.renamed[row] || held_.at(row)[NAMED] >= static_cast<std::int64_t>(tables_.levels())) continue;
      could.push_back(row);
      deeper.push_back(wanted[place] == 1);
    }
    deeper = flags(Whole(could.size(), DEEPER), deeper);
    for (std::size_t place = 0; place < could.size(); ++place)
      if (deeper[place]) said_.renamed[could[place]] = 1;
    put(rows, residuals(*tables_.score_change, beside, told(rows, &Said::score)), &Said::score);
    for (const std::size_t row : rows) {
      const std::int64_t score = held_.at(row)[SCORE] + said_.score[row];
      if (score < 0 || score > tables_.most_score)
        refuse(object(row) + "score " + std::to_string(score) + ", expected 0 to " + std::to_string(tables_.most_score));
      if (!said_.renamed[row] && !said_.score[row])
        refuse(object(row) + "score changes by 0, and its name does not" + ONE);
    }
  }

  void births() {
    if (!flag(BORN, told_ && !told_->born.empty())) return;
    Whole values{told_ ? static_cast<std::int64_t>(told_->born.size()) - 1 : 0};
    io_.code(*tables_.more, {0}, values);
    const std::int64_t count = values[0] + 1, already = static_cast<std::int64_t>(held_.size());
    if (count + already > tables_.most_objects)
      refuse(std::to_string(count) + " new objects beside " + std::to_string(already) + ", expected at most " +
             std::to_string(tables_.most_objects) + " together");
    said_.born.resize(count);
    said_.born_path.assign(count, Whole(tables_.levels(), UNNAMED));
    const auto column = [&](std::size_t place, const RangeTables& table, const Whole& rows) {
      Whole found(count);
      for (std::int64_t row = 0; told_ && row < count; ++row) found[row] = told_->born[row][place];
      io_.code(table, rows, found);
      for (std::int64_t row = 0; row < count; ++row) said_.born[row][place] = found[row];
      return found;
    };
    const Whole cells = column(0, *tables_.cells, Whole(count));
    Whole bands(count);
    for (std::int64_t row = 0; row < count; ++row) {
      if (row > 0 && cells[row] <= cells[row - 1])
        refuse("new object " + std::to_string(row) + ": cell " + std::to_string(cells[row]) + ", expected more than " +
               std::to_string(cells[row - 1]));
      bands[row] = band_row(cells[row], tables_.columns, tables_.rows);
    }
    const Whole width = column(1, *tables_.width, bands), height = column(2, *tables_.height, width);
    column(3, *tables_.offset_x, width);
    column(4, *tables_.offset_y, height);
    column(5, *tables_.score, width);
  }

  Whole& path(std::size_t row) {
    return row < held_.size() ? said_.path[row] : said_.born_path[row - held_.size()];
  }

  std::int64_t told_node(std::size_t row, std::size_t level) const {
    const Whole& path = row < held_.size() ? told_->path[row] : told_->born_path[row - held_.size()];
    return path[level - 1];
  }

  /// Of relabelled and of new objects, level by level.
  void names() {
    const std::size_t kept = held_.size(), levels = tables_.levels();
    if (!levels) return;
    Rows changing = rows_with(said_.renamed), rows;
    Whole depth(kept + said_.born.size());
    for (const std::size_t row : changing) {
      depth[row] = held_.at(row)[NAMED] + (said_.renamed[row] == 1);
      if (said_.renamed[row] == 2) rows.push_back(row), said_.path[row].assign(levels, UNNAMED);
    }
    for (std::size_t row = kept; row < depth.size(); ++row) changing.push_back(row), rows.push_back(row);
    Whole asked(rows.size());
    for (std::size_t place = 0; told_ && place < rows.size(); ++place)
      for (std::size_t level = 1; level <= levels; ++level) asked[place] += told_node(rows[place], level) != UNNAMED;
    io_.code(*tables_.depth, Whole(rows.size()), asked);
    for (std::size_t place = 0; place < rows.size(); ++place) depth[rows[place]] = asked[place];
    for (std::size_t level = 1; level <= levels; ++level) {
      Rows at;
      Whole above, table_rows, symbols;
      for (const std::size_t row : changing) {
        if (depth[row] < static_cast<std::int64_t>(level) || path(row)[level - 1] != UNNAMED) continue;
        at.push_back(row);
        above.push_back(level > 1 ? path(row)[level - 2] : 0);
        tables_.below(level, above.back());
        const bool known = row < kept;
        const std::int64_t across = known ? tables_.size_of(held_.at(row)[WIDTH]) : said_.born[row - kept][1];
        const std::int64_t down = known ? tables_.size_of(held_.at(row)[HEIGHT]) : said_.born[row - kept][2];
        table_rows.push_back(name_row(above.back(), across, down, static_cast<std::int64_t>(tables_.logs.size())));
        symbols.push_back(told_ ? tables_.place(level, told_node(row, level)) : 0);
      }
      io_.code(*tables_.names[level - 1], table_rows, symbols);
      for (std::size_t place = 0; place < at.size(); ++place) {
        const Whole& children = tables_.below(level, above[place]);
        const auto symbol = static_cast<std::size_t>(symbols[place]);
        if (symbol >= children.size())
          refuse(object(at[place]) + "child " + std::to_string(symbol) + " at level " + std::to_string(level) +
                 ", expected less than " + std::to_string(children.size()));
        path(at[place])[level - 1] = children[symbol];
      }
    }
    for (const std::size_t row : changing) {
      if (row >= kept) continue;
      said_.named[row] = depth[row];
      const std::int64_t* before = held_.at(row);
      if (depth[row] == before[NAMED] && std::equal(path(row).begin(), path(row).end(), before + PATH))
        refuse(object(row) + "renamed to " + listed(path(row)) + ", expected another name than it has");
    }
  }

  // -- the state after it -------------------------------------------------------------------------------------------

  /// Of an object's row; they were known beside its name.
  std::int64_t* latents_of(std::int64_t* one) const { return one + PATH + tables_.levels(); }

  std::int64_t edge(std::size_t axis) const { return (axis ? tables_.rows : tables_.columns) * CELL; }

  std::int64_t log(std::int64_t value) const { return within(value, LEAST_LOG, tables_.most_log()); }

  void let_be(std::size_t row, const Pair& shift) {
    std::int64_t* one = held_.at(row);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      one[X + axis] = within(one[X + axis] + shift[axis] + (one[ACROSS + axis] * elapsed_ >> 10), 0, edge(axis));
      one[WIDTH + axis] = log(one[WIDTH + axis]);
    }
  }

  void change(std::size_t row, const Pair& shift) {
    std::int64_t* one = held_.at(row);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t side = tables_.side(one[WIDTH + axis]);
      std::int64_t &place = one[X + axis], &speed = one[ACROSS + axis];
      speed = within(speed + (said_.speed[row][axis] * side * SPEED_STEP >> 8), -MOST_VELOCITY, MOST_VELOCITY);
      place = within(place + shift[axis] + (speed * elapsed_ >> 10), 0, edge(axis));
      place = within(place + (said_.place[row][axis] * side * PLACE_STEP >> 8), 0, edge(axis));
      one[WIDTH + axis] = log(one[WIDTH + axis] + said_.size[row][axis] * LOG_STEP);
    }
    one[SCORE] += said_.score[row];
    if (said_.toggled[row]) one[HIDDEN] = one[HIDDEN] ? 0 : 1;
  }

  void learn(std::size_t scale, std::int64_t residual) {
    scales_[scale] += (16 * std::abs(residual) - scales_[scale]) >> SCALE_SHIFT;
  }

  void place_new(std::size_t number, std::int64_t* one) const {
    const auto& born = said_.born[number];
    const Whole& path = said_.born_path[number];
    std::fill(one, one + held_.width, 0);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t cell = axis ? born[0] / tables_.columns : born[0] % tables_.columns;
      const std::int64_t size = one[WIDTH + axis] = tables_.logs[born[1 + axis]];
      const std::int64_t away = (born[3 + axis] - tables_.half_offsets) * tables_.offset_step * tables_.side(size);
      one[X + axis] = within(cell * CELL + CELL / 2 + (away >> 10), 0, edge(axis));
    }
    one[SCORE] = born[5];
    one[NAMED] = std::count_if(path.begin(), path.end(), [](std::int64_t node) { return node != UNNAMED; });
    std::copy(path.begin(), path.end(), one + PATH);
  }

  const DeltaTables& tables_;
  Coder& io_;
  Remembered& held_;
  const Pair& camera_;
  const Whole& flags_;
  const std::int64_t elapsed_;
  const Said* told_;
  Whole learned_, scales_;
  std::vector<bool> seen_;
  Said said_;
};

/// Raises ValueError unless a state's numbers are as many as `SceneState` has them.
void expect_state(const DeltaTables& tables, const Array<std::int64_t>& table, const Whole& flags, const Whole& scales,
                  std::int64_t elapsed) {
  expect_shape("table", table, {ANY, static_cast<py::ssize_t>(tables.state_width())});
  if (flags.size() != KINDS || scales.size() != 5 || elapsed < 1) throw py::value_error("flags, scales, elapsed: no state's");
  for (const std::int64_t flag : flags)
    if (flag < 0 || flag >= 65536) throw py::value_error("flags: outside of 0..65535");
}

/// Writes a delta behind what is in the encoder; gives what `DeltaWalk.after` does.
py::tuple write_delta(const DeltaTables& tables, RangeEncoder& coder, const Array<std::int64_t>& table,
                      const Pair& camera, const Whole& flags, const Whole& scales, std::int64_t elapsed,
                      const py::object& said) {
  expect_state(tables, table, flags, scales, elapsed);
  Remembered held(table, elapsed);
  const Said told(said, held.size(), tables.levels());
  DeltaWriter writer{coder};
  return DeltaWalk<DeltaWriter>(tables, writer, held, camera, flags, scales, elapsed, &told).after();
}

/// Reads a delta that stands next; gives what `DeltaWalk.after` does, what it cost in bits and how many of its symbols
/// are no 0. Raises OverflowError where no encoder can have made it.
std::tuple<py::tuple, double, std::int64_t> read_delta(const DeltaTables& tables, RangeDecoder& coder,
                                                       const Array<std::int64_t>& table, const Pair& camera,
                                                       const Whole& flags, const Whole& scales, std::int64_t elapsed) {
  expect_state(tables, table, flags, scales, elapsed);
  Remembered held(table, elapsed);
  DeltaReader reader{coder};
  const py::tuple after =
      DeltaWalk<DeltaReader>(tables, reader, held, camera, flags, scales, elapsed, nullptr).after();
  return {after, reader.bits, reader.others};
}

}  // namespace

void bind_delta(py::module_& module) {
  py::class_<DeltaTables>(module, "DeltaTables")
      .def(py::init<const py::dict&, const std::array<std::int64_t, 7>&, Whole, Whole, Whole,
                    std::vector<std::vector<Whole>>, std::vector<Whole>>(),
           py::arg("tables"), py::arg("numbers"), py::arg("logs"), py::arg("middles"), py::arg("sides"),
           py::arg("children"), py::arg("places"))
      .def("write", &write_delta)
      .def("read", &read_delta);
}

}  // namespace semhier
