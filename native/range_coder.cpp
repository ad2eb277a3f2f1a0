// The range coder of range_coder.hpp, as Python calls it.
#include "range_coder.hpp"

#include <pybind11/stl.h>

namespace semhier {

void bind_range_coder(py::module_& module) {
  py::class_<RangeTables>(module, "RangeTables")
      .def(py::init<const Array<std::int32_t>&, const Array<double>&>(), py::arg("frequencies"),
           py::arg("bits"));
  py::class_<RangeEncoder>(module, "RangeEncoder")
      .def(py::init<>())
      .def("put", py::overload_cast<const RangeTables&, const Array<std::int64_t>&, const Array<std::int64_t>&>(
                      &RangeEncoder::put),
           py::arg("tables"), py::arg("symbols"), py::arg("rows"))
      .def("put_list", &RangeEncoder::put_list)
      .def("finish", &RangeEncoder::finish);
  py::class_<RangeDecoder>(module, "RangeDecoder")
      .def(py::init<const py::bytes&>())
      .def("get", py::overload_cast<const RangeTables&, const Array<std::int64_t>&>(&RangeDecoder::get),
           py::arg("tables"), py::arg("rows"))
      .def("get_list", &RangeDecoder::get_list)
      .def("told", &RangeDecoder::told);
}

}  // namespace semhier
