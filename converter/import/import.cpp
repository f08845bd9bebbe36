#include "import/import.h"

namespace tonearm {

ImportedModel import_model(std::string_view bytes, const std::string& path) {
  if (is_lightgbm(bytes)) return import_lightgbm(bytes, path);
  if (is_xgboost(bytes)) return import_xgboost(bytes, path);
  return import_onnx(bytes, path);
}

}  // namespace tonearm
