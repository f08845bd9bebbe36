#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace tonearm {

/// Writes a made-up table of hit songs and others to `folder`, which is created if needed: six files
/// synthetic-dataset-of-{60s,70s,80s,90s,00s,10s}.csv of the 20 columns of the Spotify hit predictor
/// dataset, `rows` rows in all, shared evenly among the decades.
///
/// No row is real; track, artist and uri say so. Ranges, marginals, their drift over the decades and the
/// main correlations resemble the real table. In every decade half of the rows (rounded down) are hits.
/// Hits are drawn from a score that is not linear in the features, so that trees beat a logistic
/// regression as they do on real tracks. A few artists have very many tracks, and about one row in
/// eighty repeats the URI of another, some with the other label.
///
/// The same rows and seed give the same bytes. Throws Error for fewer than 12 rows or an unwritable
/// folder.
void synth_hits(std::size_t rows, std::uint64_t seed, const std::filesystem::path& folder);

}  // namespace tonearm
