// From boxes to places on the ground. semhier_ros/ground/locate.py and lens.py say in NumPy what is computed here, and
// why; here it is one pass over the samples of each box instead of some two hundred calls for all of them.

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "arrays.hpp"

namespace semhier {
namespace {

using Samples = std::vector<double>;

constexpr double NEVER = std::numeric_limits<double>::infinity();

// -- lens -------------------------------------------------------------------------------------------------------------

constexpr double RETURNS = 0.05;
constexpr double MAX_FOCAL = 1e6;
constexpr int NEWTON = 12;

double away_from_zero(double value) { return std::abs(value) < 1e-9 ? 1e-9 : value; }

/// Where the distortion (Brown 1966; OpenCV's rational model) takes a plain point, and how x and y grow with x and y.
struct Slopes {
  double x, y, xx, mixed, yy;
};

Slopes brown_slopes(double x, double y, const std::array<double, 8>& c) {
  const double k1 = c[0], k2 = c[1], p1 = c[2], p2 = c[3], k3 = c[4], k4 = c[5], k5 = c[6], k6 = c[7];
  const double square = std::min(x * x + y * y, 1e12);
  const double above = 1 + square * (k1 + square * (k2 + square * k3));
  const double below = away_from_zero(1 + square * (k4 + square * (k5 + square * k6)));
  const double radial = above / below;
  const double grows =
      2 * (k1 + square * (2 * k2 + square * 3 * k3) - radial * (k4 + square * (2 * k5 + square * 3 * k6))) / below;
  const double xy = x * y, mixed = xy * grows + 2 * p1 * x + 2 * p2 * y;
  return {x * radial + 2 * p1 * xy + p2 * (square + 2 * x * x), y * radial + p1 * (square + 2 * y * y) + 2 * p2 * xy,
          radial + x * x * grows + 2 * p1 * y + 6 * p2 * x, mixed, radial + y * y * grows + 6 * p1 * y + 2 * p2 * x};
}

/// `Lens.bundles` of a lens that is no fisheye: `lens` is fx, fy, cx, cy.
std::tuple<Array<double>, Array<bool>> bundles(const Array<double>& pixels, const std::array<double, 4>& lens,
                                               const std::array<double, 8>& coefficients, double reach) {
  expect_shape("pixels", pixels, {ANY, 2});
  const py::ssize_t count = pixels.shape(0);
  const auto [fx, fy, cx, cy] = lens;
  const double* asked = pixels.data();
  Array<double> found({count, py::ssize_t{3}, py::ssize_t{3}});
  Array<bool> known(count);
  double* out = found.mutable_data();
  bool* sane = known.mutable_data();
  std::fill(out, out + 9 * count, 0.0);
  std::vector<std::array<double, 2>> plain(count), flat(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    const double x = asked[2 * i], y = asked[2 * i + 1];
    sane[i] = std::abs(x) <= MAX_FOCAL && std::abs(y) <= MAX_FOCAL;
    plain[i] = {((sane[i] ? x : cx) - cx) / fx, ((sane[i] ? y : cy) - cy) / fy};
    out[9 * i + 2] = 1.0;
  }
  flat = plain;
  const bool distorted = std::any_of(coefficients.begin(), coefficients.end(), [](double one) { return one != 0; });
  for (int step = 0; distorted && step < NEWTON; ++step) {
    double worst = 0.0;
    for (py::ssize_t i = 0; i < count; ++i) {
      auto& [x, y] = flat[i];
      const Slopes here = brown_slopes(x, y, coefficients);
      const double miss_x = plain[i][0] - here.x, miss_y = plain[i][1] - here.y;
      const double area = away_from_zero(here.xx * here.yy - here.mixed * here.mixed);
      const double step_x = (miss_x * here.yy - miss_y * here.mixed) / area;
      const double step_y = (here.xx * miss_y - here.mixed * miss_x) / area;
      x = std::clamp(x + std::clamp(step_x, -0.5, 0.5), -1e3, 1e3);
      y = std::clamp(y + std::clamp(step_y, -0.5, 0.5), -1e3, 1e3);
      worst = std::max({worst, std::abs(miss_x), std::abs(miss_y)});
    }
    if (worst < 1e-13) break;
  }
  for (py::ssize_t i = 0; i < count; ++i) {
    double* bundle = out + 9 * i;
    const auto [x, y] = flat[i];
    if (distorted) {
      const Slopes here = brown_slopes(x, y, coefficients);
      const double area = away_from_zero(here.xx * here.yy - here.mixed * here.mixed);
      bundle[3] = here.yy / area / fx, bundle[4] = -here.mixed / area / fx;
      bundle[6] = -here.mixed / area / fy, bundle[7] = here.xx / area / fy;
      sane[i] = sane[i] && std::sqrt(x * x + y * y) <= reach;
      sane[i] = sane[i] && std::abs(here.x - plain[i][0]) * fx <= RETURNS;
      sane[i] = sane[i] && std::abs(here.y - plain[i][1]) * fy <= RETURNS;
    } else {
      bundle[3] = 1 / fx, bundle[7] = 1 / fy;
    }
    bundle[0] = sane[i] ? x : 0.0, bundle[1] = sane[i] ? y : 0.0;
  }
  return {found, known};
}

// -- errors -----------------------------------------------------------------------------------------------------------

constexpr double NORMAL_95 = 1.96, EVEN_95 = 0.95;

/// `BoxError._offset`: how wide the range is in which a quantised middle may lie.
double offset_range(double step, double cell) {
  if (cell == 0) return step;
  const double steps = std::floor(cell / std::max(2 * step, 1e-9) + 0.5), last = cell / 2 - steps * step;
  const double cubed = std::pow(step, 3.0);
  const double variance =
      ((2 * steps - 1) * cubed / 12 + 2 * (std::pow(last, 3.0) + cubed / 8) / 3) / cell;
  return steps > 0 ? std::sqrt(12 * std::max(variance, 0.0)) : cell;
}

/// `BoxError._numbers`, to the bit: n,12. steps: of size and offset, and the grid's cell.
Array<double> box_errors(const Array<double>& boxes, const Array<double>& pairs, bool tells,
                         const std::array<double, 3>& steps, double floor, double foot) {
  constexpr std::array<int, 7> SIDE_OF = {0, 0, 1, 1, 0, 0, 1};
  expect_shape("boxes", boxes, {ANY, 4});
  expect_shape("pairs", pairs, {ANY, 2});
  const py::ssize_t count = boxes.shape(0), known = pairs.shape(0);
  if (known != 7 && (known != 4 || tells)) throw py::value_error("pairs: expected 7, or 4 where nothing is read");
  const auto [size_step, offset_step, cell] = steps;
  Array<double> numbers({count, py::ssize_t{12}});
  double* out = numbers.mutable_data();
  std::fill(out, out + numbers.size(), 0.0);
  for (py::ssize_t i = 0; i < count; ++i, out += 12) {
    const double* box = boxes.data() + 4 * i;
    const std::array<double, 2> extents = {box[2] - box[0], box[3] - box[1]};
    std::array<double, 7> spreads{};
    for (py::ssize_t row = 0; row < known; ++row) {
      spreads[row] = std::hypot(pairs.data()[2 * row] * extents[SIDE_OF[row]], pairs.data()[2 * row + 1]);
    }
    std::copy(spreads.begin(), spreads.begin() + (tells ? 7 : 4), out);
    out[11] = foot * extents[1];
    if (tells) continue;
    std::array<double, 2> offsets, sizes;
    for (int side = 0; side < 2; ++side) {
      offsets[side] = offset_range(offset_step * extents[side], cell), sizes[side] = size_step / 2 * extents[side];
    }
    if (known == 7) {
      const std::array<double, 2> whole = {
          EVEN_95 * offsets[0] / 2, (offsets[1] + sizes[1] - std::sqrt(0.2 * offsets[1] * sizes[1])) / 2};
      for (int side = 0; side < 2; ++side) {
        const double left = std::min(NORMAL_95 * spreads[4 + 2 * side] / std::max(whole[side], 1e-9), 1.0);
        offsets[side] *= left, sizes[side] *= left;
      }
    }
    out[4] = floor;
    out[7] = offsets[0], out[8] = offsets[1], out[9] = sizes[0], out[10] = sizes[1];
  }
  return numbers;
}

// -- places -----------------------------------------------------------------------------------------------------------

constexpr double CHI2_95 = 5.991, SLOPE = 0.03, FLOATING = 3.0, UNSURE = 0.2, EXPLAINED = 3.0, BESIDE = 1.12;
constexpr double LEAST = 1e-9, RATE_STEP = 0.1, MOST_SPEED = 200.0;
constexpr py::ssize_t SAMPLES = 128, TURNS = 13, SPEED_SAMPLES = 32;
enum Side { kFoot, kTop, kLeft, kRight };
enum Method { kNowhere = -1, kGround, kSize, kEdge };

double ratio(double above, double below, double most) { return above / std::max(below, above / most); }

double product(const Samples& one, const Samples& other) {
  double sum = 0.0;
  for (std::size_t s = 0; s < one.size(); ++s) sum += one[s] * other[s];
  return sum;
}

/// Samples without the first, which is what was told, and without their mean.
Samples centred(const Samples& samples) {
  Samples rest(samples.begin() + 1, samples.end());
  double mean = 0.0;
  for (const double one : rest) mean += one;
  mean /= static_cast<double>(rest.size());
  for (double& one : rest) one -= mean;
  return rest;
}

double ordered(Samples& samples, double share, int less) {
  const auto place = samples.begin() + (static_cast<std::ptrdiff_t>(std::nearbyint(share * samples.size())) - less);
  std::nth_element(samples.begin(), place, samples.end());
  return *place;
}

/// Half the width of the middle two thirds of distances as a share of the first; infinite where one is no number.
double uncertain(const Samples& distances) {
  Samples rest(distances.begin() + 1, distances.end());
  for (const double one : rest) {
    if (!std::isfinite(one)) return NEVER;
  }
  const double high = ordered(rest, 0.84, 1), low = ordered(rest, 0.16, 0);
  return (high - low) / 2 / std::max(distances[0], 1e-6);
}

using Point = std::array<double, 3>;

/// A ray through a side of a box, and how it turns with a pixel to the right, one downwards, pitch and roll.
struct Ray {
  Point told, right, down, pitch, roll;
};

double slope(const Ray& ray) { return ray.told[2] / std::max(std::hypot(ray.told[0], ray.told[1]), LEAST); }

double opening(double ax, double ay, double bx, double by) {
  return 2 * std::tan(std::min(std::atan2(std::abs(ax * by - ay * bx), ax * bx + ay * by), 3.0) / 2);
}

/// What may be otherwise than told, in rows of `count` samples: what moves a box's sides, pitch and roll.
struct Draws {
  const double* rows;
  std::size_t moving, count;

  const double* pitch() const { return rows + moving * count; }
  const double* roll() const { return pitch() + count; }
};

void mix(const double* shares, const Draws& draws, Samples& out) {
  out.assign(draws.count, 0.0);
  for (std::size_t d = 0; d < draws.moving; ++d) {
    const double share = shares[d];
    if (share == 0.0) continue;
    const double* row = draws.rows + d * draws.count;
    for (std::size_t s = 0; s < draws.count; ++s) out[s] += share * row[s];
  }
}

/// x, y and z of a ray whose pixel the samples move.
struct Moved {
  std::array<Samples, 3> axes;

  void aim(const Ray& ray, const Draws& draws, const Samples& right, const Samples* down) {
    const double *pitch = draws.pitch(), *roll = draws.roll();
    for (int axis = 0; axis < 3; ++axis) {
      Samples& out = axes[axis];
      out.resize(draws.count);
      const double told = ray.told[axis], by_pitch = ray.pitch[axis], by_roll = ray.roll[axis];
      const double across = ray.right[axis], along = ray.down[axis];
      for (std::size_t s = 0; s < draws.count; ++s) {
        out[s] = told + across * right[s] + by_pitch * pitch[s] + by_roll * roll[s];
      }
      if (down != nullptr) {
        for (std::size_t s = 0; s < draws.count; ++s) out[s] += along * (*down)[s];
      }
    }
  }
};

struct Scene {
  Point position;
  std::array<double, 2> forward;
  double far, beyond, max_range;
  std::array<double, 2> edge;  // pixels from the picture's border within which a side is cut off
  std::array<double, 2> picture;
};

struct Distances {
  Samples ground, x, y, between;
};

/// One box on its way to the ground.
class Box {
 public:
  Box(const Scene& scene, const double* box, const double* kind) : scene_(scene) {
    const auto [across, down] = scene.edge;
    cut_ = {box[0] <= across, box[1] <= down, box[2] >= scene.picture[0] - across, box[3] >= scene.picture[1] - down};
    upright_ = !(cut_[1] || cut_[3]), narrow_ = !(cut_[0] || cut_[2]);
    length_ = kind[0], width_ = kind[1], height_ = kind[2], spread_ = kind[3];
    broad_ = kind + 4, deep_ = broad_ + TURNS, slant_ = deep_ + TURNS;
  }

  /// Takes the ray of a side, from a bundle in the camera's axes.
  void aim(Side side, const double* bundle, const double* turn, bool known) {
    Ray& ray = rays_[side];
    for (int axis = 0; axis < 3; ++axis) {
      const auto turned = [&](int row) {
        const double* one = bundle + 3 * row;
        return one[0] * turn[3 * axis] + one[1] * turn[3 * axis + 1] + one[2] * turn[3 * axis + 2];
      };
      ray.told[axis] = turned(0), ray.right[axis] = turned(1), ray.down[axis] = turned(2);
    }
    const auto [x, y, z] = ray.told;
    const auto [a, b] = scene_.forward;
    ray.pitch = {z * a, z * b, -(a * x + b * y)};
    ray.roll = {z * b, z * -a, a * y - b * x};
    seen_[side] = known;
  }

  Distances distances(const double* shares, const Draws& draws, const double* height) const {
    std::vector<double> middle(draws.moving);
    const double *left = shares, *upper = shares + draws.moving, *right = upper + draws.moving,
                 *lower = right + draws.moving;
    for (std::size_t d = 0; d < draws.moving; ++d) middle[d] = (left[d] + right[d]) / 2;
    Samples across, down;
    Moved foot, top;
    mix(middle.data(), draws, across);
    mix(lower, draws, down);
    foot.aim(rays_[kFoot], draws, across, &down);
    mix(upper, draws, down);
    top.aim(rays_[kTop], draws, across, &down);
    Distances found;
    for (Samples* each : {&found.ground, &found.x, &found.y, &found.between}) each->resize(draws.count);
    const auto &[fx, fy, fz] = foot.axes;
    const auto &[tx, ty, tz] = top.axes;
    for (std::size_t s = 0; s < draws.count; ++s) {
      const double level = std::max(std::sqrt(fx[s] * fx[s] + fy[s] * fy[s]), LEAST);
      const double above = std::max(std::sqrt(tx[s] * tx[s] + ty[s] * ty[s]), LEAST);
      const double rise = fz[s] / level;
      found.x[s] = level > LEAST ? fx[s] / level : 1.0;
      found.y[s] = level > LEAST ? fy[s] / level : 0.0;
      found.ground[s] = ratio(height[s], -rise, scene_.far);
      found.between[s] = tz[s] / above - rise;
    }
    return found;
  }

  Samples by_size(const Distances& found, const double* shares, const Draws& draws, const double* kind) const {
    Samples result(draws.count);
    if (upright_) {
      for (std::size_t s = 0; s < draws.count; ++s) {
        result[s] = ratio(height_ * std::exp(spread_ * kind[s]), found.between[s], scene_.far);
      }
      return result;
    }
    Samples sideways;
    Moved left, right;
    mix(shares, draws, sideways);
    left.aim(rays_[kLeft], draws, sideways, nullptr);
    mix(shares + 2 * draws.moving, draws, sideways);
    right.aim(rays_[kRight], draws, sideways, nullptr);
    const double mean = (width_ + length_) / 2, turned = std::abs(length_ - width_) / (2 * std::sqrt(3.0) * mean);
    const double varied = std::sqrt(spread_ * spread_ + turned * turned);
    for (std::size_t s = 0; s < draws.count; ++s) {
      const double open = opening(left.axes[0][s], left.axes[1][s], right.axes[0][s], right.axes[1][s]);
      result[s] = ratio(mean * std::exp(varied * kind[s]), open, scene_.far);
    }
    return result;
  }

  /// `_Frame._stand`: chooses the surer method; how far the near side is, by sample.
  Samples stand(Distances& found, const double* shares, const Draws& draws, const double* height, const double* kind,
                const double* nearness) {
    const bool below = cut_[3], has_foot = seen_[kFoot] && found.ground[0] < scene_.beyond;
    std::array<double, 3> sure = {NEVER, NEVER, NEVER};
    if (has_foot && !below) {
      const double doubt = uncertain(found.ground);
      sure[kGround] = doubt <= UNSURE ? 0.0 : doubt;
    }
    Samples sized;
    if (sure[kGround] > 0 && sure[kGround] > spread_) {
      sized = by_size(found, shares, draws, kind);
      const bool has_size = upright_ ? seen_[kFoot] && seen_[kTop] : narrow_ && seen_[kLeft] && seen_[kRight];
      Samples lifts(draws.count);
      const double rise = slope(rays_[kFoot]);
      for (std::size_t s = 0; s < draws.count; ++s) lifts[s] = (rise + draws.pitch()[s]) * sized[s] + height[s];
      const Samples varied = centred(lifts);
      const double deviation = std::sqrt(product(varied, varied) / static_cast<double>(varied.size()));
      const bool stands = lifts[0] <= FLOATING * deviation + SLOPE * sized[0];
      if (has_size && sized[0] < scene_.beyond && (stands || below)) sure[kSize] = uncertain(sized);
    }
    Samples edge;
    if (below && has_foot) {
      edge = found.ground;
      for (std::size_t s = 0; s < draws.count; ++s) edge[s] *= nearness[s];
      sure[kEdge] = uncertain(edge);
    }
    const auto best = std::min_element(sure.begin(), sure.end());
    method_ = std::isfinite(*best) ? static_cast<Method>(best - sure.begin()) : kNowhere;
    whole_ = upright_ && seen_[kFoot] && seen_[kTop];
    if (method_ == kEdge) return edge;
    if (method_ == kSize) {
      for (std::size_t s = 0; below && s < draws.count; ++s) sized[s] = std::min(sized[s], found.ground[s]);
      return sized;
    }
    if (method_ == kGround && whole_) agree(found, kind);
    return found.ground;
  }

  /// `_Frame._measure` and `_turn`, of what is `near` metres away.
  void measure(double near) {
    const auto &left = rays_[kLeft].told, &right = rays_[kRight].told;
    const bool told = seen_[kLeft] && seen_[kRight] && narrow_;
    const double least = std::min(length_, width_), most = std::max(length_, width_);
    wide_ = told ? near * opening(left[0], left[1], right[0], right[1]) : width_;
    wide_ = std::min(std::max(wide_, 0.5 * least), 1.5 * most);
    double all = 0.0, deep = 0.0, square = 0.0, slant = 0.0;
    for (std::size_t turn = 0; turn < static_cast<std::size_t>(TURNS); ++turn) {
      const double away = (wide_ - broad_[turn]) / ((spread_ + 0.05) * broad_[turn]);
      const double likely = std::exp(-0.5 * std::min(away * away, 600.0)) + 1e-12;
      all += likely;
      deep += likely * deep_[turn];
      square += likely * deep_[turn] * deep_[turn];
      slant += likely * slant_[turn];
    }
    thick_ = deep / all;
    const double varied = std::max(square / all - thick_ * thick_, 0.0);
    thick_sigma_ = std::sqrt(varied + (spread_ * thick_) * (spread_ * thick_));
    slanted_ = BESIDE * std::sqrt(slant / all);
    tall_ = height_;
    if (whole_) {
      const double seen = near * (slope(rays_[kTop]) - slope(rays_[kFoot]));
      tall_ = std::min(std::max(seen, 0.4 * height_), 2 * height_);
    }
  }

  /// `_Frame._middles`: puts the middles of the object in the place of the directions to it.
  void middles(const Samples& near, Samples& x, Samples& y, const double* depth, const double* aside) const {
    const auto [a, b] = scene_.forward;
    for (std::size_t s = 0; s < near.size(); ++s) {
      const double ahead = std::max(std::abs(x[s] * a + y[s] * b), 0.5);
      const double away = std::max(thick_sigma_ * depth[s] + thick_, 0.0) / ahead / 2 + near[s];
      const double beside = slanted_ * aside[s] / std::max(away, 0.5), across = x[s], along = y[s];
      x[s] = away * across - beside * along + scene_.position[0];
      y[s] = away * along + beside * across + scene_.position[1];
    }
  }

  /// `_Frame.speeds`: velocity x, y and its covariance xx, xy, yy, of a box whose sides move by `shares` a second.
  std::array<double, 5> speed(const double* shares, const Draws& draws, double height) const {
    const Samples heights(draws.count, height), still(draws.count, 0.0);
    std::vector<double> moved(4 * draws.moving);
    std::array<Distances, 2> ends;
    for (int end = 0; end < 2; ++end) {
      const double half_step = (end == 0 ? -RATE_STEP : RATE_STEP) / 2;
      for (std::size_t place = 0; place < moved.size(); ++place) moved[place] = half_step * shares[place];
      ends[end] = distances(moved.data(), draws, heights.data());
      if (method_ == kSize) ends[end].ground = by_size(ends[end], moved.data(), draws, still.data());
      for (double& near : ends[end].ground) near = method_ == kEdge ? near / 2 : near;
      middles(ends[end].ground, ends[end].x, ends[end].y, still.data(), still.data());
    }
    Samples x(draws.count), y(draws.count);
    for (std::size_t s = 0; s < draws.count; ++s) {
      x[s] = std::clamp((ends[1].x[s] - ends[0].x[s]) / RATE_STEP, -MOST_SPEED, MOST_SPEED);
      y[s] = std::clamp((ends[1].y[s] - ends[0].y[s]) / RATE_STEP, -MOST_SPEED, MOST_SPEED);
    }
    double xx = 0.0, xy = 0.0, yy = 0.0;
    for (std::size_t s = 1; s < draws.count; ++s) {
      const double across = x[s] - x[0], along = y[s] - y[0];
      xx += across * across, xy += across * along, yy += along * along;
    }
    const double samples = static_cast<double>(draws.count - 1);
    return {x[0], y[0], xx / samples + 1e-6, xy / samples, yy / samples + 1e-6};
  }

  Method method() const { return method_; }
  std::array<double, 3> extent() const { return {thick_, wide_, tall_}; }

 private:
  void agree(Distances& found, const double* kind) const {
    const auto least = std::min_element(found.between.begin(), found.between.end());
    if (!(*least > LEAST)) return;
    Samples distance(found.ground), tall(found.ground);
    for (std::size_t s = 0; s < tall.size(); ++s) {
      tall[s] = std::log(found.between[s] * tall[s] / height_);
      distance[s] = std::log(distance[s]);
    }
    const Samples near = centred(distance), high = centred(tall);
    const double samples = static_cast<double>(near.size());
    const double variance = product(high, high) / samples + spread_ * spread_;
    double gain = product(near, high) / samples / variance;
    if (tall[0] * tall[0] > EXPLAINED * EXPLAINED * variance) gain = 0.0;
    for (std::size_t s = 0; s < tall.size(); ++s) {
      found.ground[s] = std::min(std::exp(distance[s] - (tall[s] - spread_ * kind[s]) * gain), scene_.far);
    }
  }

  const Scene& scene_;
  std::array<bool, 4> cut_{}, seen_{};
  bool upright_, narrow_, whole_ = false;
  double length_, width_, height_, spread_;
  const double *broad_, *deep_, *slant_;
  std::array<Ray, 4> rays_{};
  Method method_ = kNowhere;
  double wide_ = 0.0, thick_ = 0.0, thick_sigma_ = 0.0, slanted_ = 0.0, tall_ = 0.0;
};

/// The covariance xx, xy, yy of middles about the first, scaled so that its 95 % ellipse holds 95 % of them.
Point covariance(const Samples& x, const Samples& y) {
  const std::size_t samples = x.size() - 1;
  Samples across(samples), along(samples), squares(samples);
  for (std::size_t s = 0; s < samples; ++s) across[s] = x[s + 1] - x[0], along[s] = y[s + 1] - y[0];
  const double count = static_cast<double>(samples);
  const double xx = product(across, across) / count + 1e-8, yy = product(along, along) / count + 1e-8;
  const double xy = product(across, along) / count;
  const double size = std::max(xx * yy - xy * xy, 1e-12 * xx * yy);
  for (std::size_t s = 0; s < samples; ++s) {
    squares[s] = (yy / size * across[s] - 2 * xy / size * along[s]) * across[s] + along[s] * along[s] * (xx / size);
    if (!std::isfinite(squares[s])) return {NEVER, NEVER, NEVER};
  }
  const double scale = std::clamp(ordered(squares, 0.95, 1) / CHI2_95, 0.1, 4.0);
  return {xx * scale, xy * scale, yy * scale};
}

/// What `_Frame` says of boxes n,4: numbers n,12 in the order of `Located`, and by which method (-1: stands nowhere).
///
/// rays, known: of the four sides. shares n,4,D: how the first D draws move the sides. draws D+3,S: then pitch,
/// roll and 1. chances 5,S: the camera's height, the size for the kind, depth, how far aside, and how near what is cut
/// off below is. rates n,4,5, by speed_draws: how fast the sides move, and how surely; then n,5 numbers say how fast
/// the objects do (of no rates, none).
std::tuple<Array<double>, Array<std::int64_t>, Array<double>> places(
    const Array<double>& boxes, const Array<double>& rays, const Array<bool>& known, const Array<double>& kinds,
    const Array<double>& shares, const Array<double>& draws, const Array<double>& chances,
    const Array<double>& rates, const Array<double>& speed_draws, const Array<double>& rotation, const Point& position,
    const std::array<double, 2>& forward, const std::array<double, 2>& picture, const std::array<double, 2>& edge,
    double max_range) {
  expect_shape("boxes", boxes, {ANY, 4});
  const py::ssize_t count = boxes.shape(0);
  expect_shape("rays", rays, {4, count, 3, 3});
  expect_shape("known", known, {4, count});
  expect_shape("kinds", kinds, {count, 4 + 3 * TURNS});
  expect_shape("draws", draws, {ANY, 1 + SAMPLES});
  if (draws.shape(0) < 3) expect_shape("draws", draws, {3, 1 + SAMPLES});
  expect_shape("shares", shares, {count, 4, draws.shape(0) - 3});
  expect_shape("chances", chances, {5, 1 + SAMPLES});
  const bool moving = rates.size() > 0;
  if (moving) expect_shape("rates", rates, {count, 4, 5});
  expect_shape("speed_draws", speed_draws, {8, 1 + SPEED_SAMPLES});
  expect_shape("rotation", rotation, {3, 3});
  const Scene scene{position, forward, 4 * max_range, 4 * max_range * (1 - 1e-9), max_range, edge, picture};
  const Draws drawn{draws.data(), static_cast<std::size_t>(shares.shape(2)), static_cast<std::size_t>(draws.shape(1))};
  const double *height = chances.data(), *kind = height + drawn.count, *depth = kind + drawn.count,
               *aside = depth + drawn.count, *nearness = aside + drawn.count;
  Array<double> numbers({count, py::ssize_t{12}});
  Array<std::int64_t> methods(count);
  Array<double> speeds({moving ? count : 0, py::ssize_t{5}});
  const Draws speed_drawn{speed_draws.data(), 5, static_cast<std::size_t>(1 + SPEED_SAMPLES)};
  double* out = numbers.mutable_data();
  std::int64_t* chosen = methods.mutable_data();
  const double *sides = boxes.data(), *aims = rays.data(), *usual = kinds.data(), *moves = shares.data();
  const bool* seen = known.data();
  const double* turn = rotation.data();
  const py::ssize_t kind_length = kinds.shape(1), moves_length = 4 * shares.shape(2);
  for (py::ssize_t i = 0; i < count; ++i, out += 12) {
    Box box(scene, sides + 4 * i, usual + kind_length * i);
    for (int side = 0; side < 4; ++side) {
      box.aim(static_cast<Side>(side), aims + 9 * (side * count + i), turn, seen[side * count + i]);
    }
    const double* share = moves + moves_length * i;
    Distances found = box.distances(share, drawn, height);
    const Samples near = box.stand(found, share, drawn, height, kind, nearness);
    chosen[i] = box.method();
    std::fill(out, out + 12, 0.0);
    if (moving) std::fill_n(speeds.mutable_data() + 5 * i, 5, 0.0);
    if (box.method() == kNowhere) continue;
    box.measure(near[0]);
    if (moving) {
      const auto speed = box.speed(rates.data() + 20 * i, speed_drawn, position[2]);
      std::copy(speed.begin(), speed.end(), speeds.mutable_data() + 5 * i);
    }
    const double facing = std::atan2(found.y[0], found.x[0]);
    box.middles(near, found.x, found.y, depth, aside);
    const auto [xx, xy, yy] = covariance(found.x, found.y);
    const auto [deep, wide, tall] = box.extent();
    const double x = found.x[0], y = found.y[0], right = x - position[0], ahead = y - position[1];
    const std::array<double, 12> told = {x,    y,    near[0], std::hypot(right, ahead), std::atan2(ahead, right), deep,
                                         wide, tall, facing,  xx,                       xy,                       yy};
    const bool finite = std::all_of(told.begin(), told.end(), [](double one) { return std::isfinite(one); });
    if (!finite || !(near[0] > 0) || !(told[3] <= max_range) || !(xx * yy > xy * xy)) chosen[i] = kNowhere;
    std::copy(told.begin(), told.end(), out);
  }
  return {numbers, methods, speeds};
}

}  // namespace

void bind_ground(py::module_& module) {
  module.def("bundles", &bundles, py::arg("pixels"), py::arg("lens"), py::arg("coefficients"),
             py::arg("reach"));
  module.def("box_errors", &box_errors, py::arg("boxes"), py::arg("pairs"), py::arg("tells"),
             py::arg("steps"), py::arg("floor"), py::arg("foot"));
  module.def("places", &places, py::arg("boxes"), py::arg("rays"), py::arg("known"),
             py::arg("kinds"), py::arg("shares"), py::arg("draws"),
             py::arg("chances"), py::arg("rates"), py::arg("speed_draws"),
             py::arg("rotation"), py::arg("position"), py::arg("forward"),
             py::arg("picture"), py::arg("edge"), py::arg("max_range"));
}

}  // namespace semhier
