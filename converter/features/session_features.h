#pragma once

#include <tonearm_schema/model_generated.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/recipe.h"
#include "data/sessions.h"
#include "train/recurrent.h"

namespace tonearm {

/// What is known of values that an encoder is fitted to: gathered in one pass, without keeping them.
struct Moments {
  std::size_t rows = 0;
  std::vector<double> mean;        // of each value that is not missing
  std::vector<double> deviation;   // population standard deviation
  std::vector<double> low, high;   // of finite values; 0 where there are none
  std::vector<double> covariance;  // row-major, of the rows in which nothing is missing

  /// Adds rows of `width` values, row-major (Welford 1962, blockwise as in Chan, Golub, LeVeque 1983).
  class Accumulator;
};

/// The features of a session model, fitted: what the runtime runs, and how a predictor reads it.
///
/// A recipe's [[features]] name an encoder each. Aggregates read tracks that have ended; all others read the
/// track that is asked about, or, where an aggregate reads them by `input` or `inputs`, the ended one. The
/// phase of every feature follows from what it reads. Encoders that another one reads are not inputs of the
/// predictor.
///
/// encode = "identity" | "scale" | "one-hot" | "ordinal" | "bucket" | "pca"   as for plain tables; they read
///                        columns, input = name of a feature, or inputs = [names]
///          "difference"  columns, minus = [as many]
///          "distance"    columns, to = name of a mean of the same columns; no aggregate can read it
///          "fact"        facts = ["horizon", "position", "gap", "elapsed", "playing"]
///          "lag"         columns or input, count, empty = number (default: missing)
///          "mean"        columns or input, keep or half_life = tracks, weight = column ("skipped"),
///                        prior, prior_weight
///          "window"      columns or input, length
///          "total"       columns or input
///          "streak"      columns or input, same = true
///          "repeats"     of = "track" | "artist", length
/// Aggregates take carries = true: their state outlives the session.
///
/// Of a network over sessions, these are branches with inputs of their own; what others read is the network's
/// row, as it is:
///
/// encode = "recurrent"  source = "session" (default): columns, input or inputs, of the ended tracks, a step
/// each;
///                       source = "row": those of the predicted track, in `steps` equal parts; layers =
///                       [{cell, units, direction}] or cell, units, direction; steps = the latest so many
///                       (default: all, taken in one at a time); padding = number: always so many steps;
///                       dropout
///          "dense"      columns, input or inputs, of the predicted track; hidden = [units]; dropout
///
/// Leaks: a feature of the predicted track that reads an `end` column is refused, as is any feature that
/// reads a column no player ever knows ("session_length"), unless the recipe says allow_leakage = true; then
/// the card says leaky.
class SessionProgram {
 public:
  /// Values of some features over training rows, for encoders that are fitted ("scale", "pca"): runs the
  /// program `model`, whose output is those values.
  using Fit = std::function<Moments(schema::ModelT& model)>;

  SessionProgram(const Recipe::Section& recipe, const std::vector<LogColumn>& columns, const Fit& fit);

  /// The columns, rules and features, with all that the predictor reads gathered into one run of slots, which
  /// is the output: to collect feature vectors, and for predictors that read all of them.
  schema::ModelT gathered() const;
  /// The same for tree ensembles, which pick their inputs: nothing is gathered. slots()[i] is that of feature
  /// i.
  schema::ModelT scattered() const;

  /// A part of a network over sessions. Of a session branch, a step's numbers are History features, which the
  /// scattered and the gathered model have from `slot` on, and numbers [first, first + width) of steps(). Of
  /// others, and of the branch without a name and without layers, which has what no other branch reads, they
  /// are features [first, first + width), in the gathered order.
  struct Branch {
    std::string name;
    BranchOptions options;  // inputs are those here
    std::size_t first = 0, width = 0;
    std::uint16_t slot = 0;
  };
  /// The unnamed one first, then those over the session, over columns and dense ones.
  const std::vector<Branch>& branches() const { return branches_; }
  std::size_t step_features() const { return steps_.size(); }
  /// A program whose outputs are the steps of all session branches: of the last track that has ended.
  schema::ModelT steps() const;

  const std::vector<std::string>& names() const { return names_; }
  /// Of scattered(): the slot of each feature; those below context_end() are of the context part.
  const std::vector<std::uint16_t>& slots() const { return slots_; }
  std::uint16_t first_slot() const { return first_slot_; }
  std::uint16_t context_end() const { return context_end_; }
  std::uint16_t end_slot() const { return end_slot_; }
  bool leaky() const { return leaky_; }

 private:
  friend class SessionProgramBuilder;
  enum class Form { scattered, gathered, steps };
  SessionProgram();
  schema::ModelT assemble(Form form) const;

  /// An input of a feature: a column, or an output of another feature.
  struct Source {
    bool column = false;
    std::size_t index = 0;   // of the column or the feature
    std::size_t offset = 0;  // of the feature's output
  };
  struct Planned {
    schema::Phase phase;
    std::vector<Source> inputs;
    std::size_t length = 0;
    schema::EncoderUnion encoder;
  };

  std::vector<LogColumn> columns_;  // in the model's order
  std::vector<float> fill_;
  std::vector<Planned> planned_;
  std::vector<Source> outputs_;  // of the predictor's features
  std::vector<Source> steps_;    // of the session branches
  std::vector<Branch> branches_;
  std::vector<std::string> names_;
  schema::SessionRuleT session_;
  schema::LabelRuleT label_;
  std::vector<std::uint16_t> slots_;
  std::uint16_t first_slot_ = 0, context_end_ = 0, end_slot_ = 0;
  bool leaky_ = false;
};

/// The track columns that a recipe's features read, so that a source of logs keeps no others.
std::vector<std::string> columns_read(const Recipe::Section& recipe);

class Moments::Accumulator {
 public:
  void add(std::size_t width, const float* rows, std::size_t count);
  Moments finish() const;

 private:
  std::size_t width_ = 0, rows_ = 0, whole_ = 0;
  std::vector<double> count_, mean_, squares_, low_, high_;
  std::vector<double> whole_mean_, products_;  // of rows without missing values
};

}  // namespace tonearm
