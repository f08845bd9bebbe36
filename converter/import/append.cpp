// From what any importer found to the blob's program.

#include <algorithm>
#include <limits>
#include <memory>

#include "import/import.h"

namespace tonearm {

void append_imported(schema::ModelT& model, const ImportedModel& imported,
                     const std::vector<std::uint16_t>& slots, std::uint16_t context_end,
                     TreeStorage storage) {
  if (const auto* program = std::get_if<ImportedProgram>(&imported.predictor)) {
    std::uint16_t first = slots.front();
    for (std::size_t i = 0; i < slots.size(); ++i)
      if (slots[i] != first + i) {
        schema::EncoderUnion identity;
        identity.Set(schema::IdentityT());
        first = append_feature(model, slots, slots.size(), std::move(identity));
        break;
      }
    return program->append(model, first);
  }
  const auto& trees = std::get<ImportedTrees>(imported.predictor);
  const auto [low, high] = std::minmax_element(slots.begin(), slots.end());
  TreeEnsemble placed = trees.ensemble;
  for (Tree& tree : placed.trees)
    for (TreeNode& node : tree.nodes)
      if (node.feature >= 0) node.feature = slots[static_cast<std::size_t>(node.feature)] - *low;
  append_trees(model, placed, *low, static_cast<std::size_t>(*high - *low) + 1, storage,
               context_end > *low ? static_cast<std::size_t>(context_end - *low) : 0);
  append_link(model, trees.link, trees.slope);
}

schema::ModelT table_model(const ImportedModel& imported, const std::map<std::string, std::string>& names,
                           TreeStorage storage) {
  schema::ModelT model;
  std::vector<std::uint16_t> slots;
  for (const ImportedColumn& column : imported.columns) {
    auto made = std::make_unique<schema::ColumnT>();
    const auto renamed = names.find(column.name);
    made->name = renamed == names.end() ? column.name : renamed->second;
    made->type = column.vocabulary.empty() ? schema::ColumnType::Number : schema::ColumnType::Category;
    made->vocabulary = column.vocabulary;
    model.columns.push_back(std::move(made));
    model.missing_fill.push_back(std::numeric_limits<float>::quiet_NaN());
    slots.push_back(static_cast<std::uint16_t>(slots.size()));
  }
  append_imported(model, imported, slots, 0, storage);
  return model;
}

}  // namespace tonearm
