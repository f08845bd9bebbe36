// Changes lines of a LightGBM file, or words of a line, of which the number stays the same mostly.

#include <vector>

#include "mutation.h"

namespace {

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == at)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

std::string joined(const std::vector<std::string>& parts, char with) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += with;
    text += parts[i];
  }
  return text;
}

void change_word(std::string& line, const std::string& other, std::minstd_rand& random) {
  const std::size_t equals = line.find('=');
  if (equals == line.npos) return;
  std::vector<std::string> words = split(line.substr(equals + 1), ' ');
  const std::vector<std::string> others = split(other.substr(other.find('=') + 1), ' ');
  const auto place = words.begin() + static_cast<std::ptrdiff_t>(below(random, words.size()));
  switch (below(random, 6)) {
    case 0:
    case 1:
      *place = edge_number(random);
      break;
    case 2:
      *place = others[below(random, others.size())];
      break;
    case 3:
      std::swap(*place, words[below(random, words.size())]);
      break;
    case 4:
      words.insert(place, edge_number(random));
      break;
    default:
      words.erase(place);
  }
  line.erase(equals + 1);
  line += joined(words, ' ');
}

}  // namespace

std::string mutated_model(std::string_view bytes, std::size_t, std::minstd_rand& random) {
  if (bytes.substr(0, 5) != "tree\n") return {};
  std::vector<std::string> lines = split(bytes, '\n');
  for (std::size_t changes = 1 + below(random, 4); changes > 0 && !lines.empty(); --changes) {
    const std::size_t at = below(random, lines.size());
    const auto place = lines.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(random, 12)) {
      case 0:
        lines.erase(place);
        break;
      case 1:
        lines.insert(place, lines[below(random, lines.size())]);
        break;
      case 2:
        std::swap(*place, lines[below(random, lines.size())]);
        break;
      case 3: {  // one key's value for another's
        const std::string& other = lines[below(random, lines.size())];
        const std::size_t equals = place->find('='), from = other.find('=');
        if (equals != std::string::npos && from != std::string::npos)
          *place = place->substr(0, equals) + other.substr(from);
        break;
      }
      default:
        change_word(*place, lines[below(random, lines.size())], random);
    }
  }
  return joined(lines, '\n');
}
