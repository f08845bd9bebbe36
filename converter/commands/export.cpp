#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/report.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

// Locale has no say in what C takes for a letter.
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Of C99 to C23 and of C++, but for those that begin with an underscore.
constexpr std::array keywords = {"alignas",
                                 "alignof",
                                 "and",
                                 "and_eq",
                                 "asm",
                                 "auto",
                                 "bitand",
                                 "bitor",
                                 "bool",
                                 "break",
                                 "case",
                                 "catch",
                                 "char",
                                 "char8_t",
                                 "char16_t",
                                 "char32_t",
                                 "class",
                                 "co_await",
                                 "co_return",
                                 "co_yield",
                                 "compl",
                                 "concept",
                                 "const",
                                 "const_cast",
                                 "consteval",
                                 "constexpr",
                                 "constinit",
                                 "continue",
                                 "decltype",
                                 "default",
                                 "delete",
                                 "do",
                                 "double",
                                 "dynamic_cast",
                                 "else",
                                 "enum",
                                 "explicit",
                                 "export",
                                 "extern",
                                 "false",
                                 "float",
                                 "for",
                                 "friend",
                                 "goto",
                                 "if",
                                 "inline",
                                 "int",
                                 "long",
                                 "mutable",
                                 "namespace",
                                 "new",
                                 "noexcept",
                                 "not",
                                 "not_eq",
                                 "nullptr",
                                 "operator",
                                 "or",
                                 "or_eq",
                                 "private",
                                 "protected",
                                 "public",
                                 "register",
                                 "reinterpret_cast",
                                 "requires",
                                 "restrict",
                                 "return",
                                 "short",
                                 "signed",
                                 "sizeof",
                                 "static",
                                 "static_assert",
                                 "static_cast",
                                 "struct",
                                 "switch",
                                 "template",
                                 "this",
                                 "thread_local",
                                 "throw",
                                 "true",
                                 "try",
                                 "typedef",
                                 "typeid",
                                 "typename",
                                 "typeof",
                                 "typeof_unqual",
                                 "union",
                                 "unsigned",
                                 "using",
                                 "virtual",
                                 "void",
                                 "volatile",
                                 "wchar_t",
                                 "while",
                                 "xor",
                                 "xor_eq"};

/// Throws Error unless C and C++ take it as the name of a variable beside tonearm.h.
void require_identifier(const std::string& name) {
  const auto fail = [&](const std::string& why) {
    throw Error("'" + name + "' cannot be the array's name: " + why + "; give another one with --name");
  };
  if (name.empty() || !is_letter(name[0])) fail("it should begin with a letter");
  for (const char c : name)
    if (!is_letter(c) && !is_digit(c) && c != '_')
      fail("it should be made of ASCII letters, digits and underscores");
  if (name.size() > 48) fail("it has more than 48 characters");
  if (std::find(keywords.begin(), keywords.end(), name) != keywords.end())
    fail("C or C++ keeps it for itself");
  if (name.starts_with("tonearm_")) fail("tonearm.h keeps what begins with tonearm_");
}

/// The name of the file without its extension, as an identifier: skip-2.tarm becomes skip_2.
std::string name_from(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  for (char& c : name)
    if (!is_letter(c) && !is_digit(c)) c = '_';
  return name;
}

/// Text from the blob that can neither end the comment it stands in nor be warned of by a compiler.
std::string in_comment(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    const char last = safe.empty() ? ' ' : safe.back();
    if ((last == '*' && c == '/') || (last == '/' && c == '*') || (last == '?' && c == '?')) safe += ' ';
    safe += static_cast<unsigned char>(c) < ' ' || c == '\x7f' || c == '\\' ? ' ' : c;
  }
  return safe;
}

std::string header(const Blob& blob, const std::string& name) {
  const tonearm_info& info = blob.info();
  std::string upper = name;
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  const char* prefix = upper.c_str();

  std::string text =
      "/* A Tonearm model, to be linked into a program. Made by `tonearm export`; do not edit.\n *\n";
  const auto line = [&](const char* what, const std::string& value) {
    if (!value.empty()) text += format(" * %-10s ", what) + in_comment(value) + "\n";
  };
  line("name", info.name);
  line("version", info.version);
  line("task", info.task);
  line("label", info.label);
  if (info.synthetic != 0) line("SYNTHETIC", "trained on generated data");
  if (info.leaky != 0) line("LEAKY", "reads what is only known after the fact: for study, not for use");
  line("format", format("%u.%u", info.format_major, info.format_minor));
  text += " *\n * All the memory there is to give, besides a tonearm_model:\n *\n";
  if (info.session_bytes != 0)
    text += format(" *     static uint32_t session[%s_SESSION_BYTES / 4];\n", prefix);
  text += format(
      " *     static uint32_t scratch[(%s_SCRATCH_BYTES + 3) / 4];\n"
      " *     tonearm_model_open(&model, %s, %s_BYTES, NULL, NULL)\n"
      " *\n"
      " * Include this file in one source file only: each would have an array of its own. */\n",
      prefix, name.c_str(), prefix);
  text += format("#ifndef %s_TARM_H\n#define %s_TARM_H\n\n", prefix, prefix);
  text += format("#define %s_BYTES %u\n", prefix, info.blob_bytes);
  text += format("#define %s_SESSION_BYTES %u%s\n", prefix, info.session_bytes,
                 info.session_bytes == 0 ? " /* it has no sessions: see tonearm_evaluate */" : "");
  text += format("#define %s_SCRATCH_BYTES %u\n", prefix, info.scratch_bytes);
  text += format("#define %s_MODEL_ID 0x%08xu /* tonearm_info.model_id */\n\n", prefix, info.model_id);
  text +=
      "/* The beginning of a cache line; a multiple of 4 is what the library needs. */\n"
      "#if defined(__cplusplus) && __cplusplus >= 201103L\n"
      "alignas(64)\n"
      "#elif defined(__GNUC__)\n"
      "__attribute__((aligned(64)))\n"
      "#elif defined(_MSC_VER)\n"
      "__declspec(align(64))\n"
      "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n"
      "_Alignas(64)\n"
      "#else\n"
      "#error \"write here how this compiler aligns a variable to 64 bytes\"\n"
      "#endif\n";
  text += format("static const unsigned char %s[%s_BYTES] = {", name.c_str(), prefix);
  constexpr char digits[] = "0123456789abcdef";
  std::size_t count = 0;
  for (const unsigned char byte : blob.bytes()) {
    text += count++ % 20 == 0 ? "\n    0x" : "0x";
    text += digits[byte >> 4];
    text += digits[byte & 15];
    text += ',';
  }
  return text + "\n};\n\n#endif\n";
}

void export_model(const std::string& path, const std::string& file, std::string name,
                  const std::string& json_path) {
  const Blob blob(read_file(path), path);
  if (name.empty()) name = name_from(path);
  require_identifier(name);
  std::error_code none;
  if (std::filesystem::equivalent(path, file, none))
    throw Error(file + " is the model itself: name another file for --c-array, like " + name + ".h");
  write_file(file, header(blob, name));
  const tonearm_info& info = blob.info();
  print_report(format("%s: the array %s, %u bytes; a session takes %u bytes, the scratch %u%s%s\n",
                      file.c_str(), name.c_str(), info.blob_bytes, info.session_bytes, info.scratch_bytes,
                      info.synthetic != 0 ? "; SYNTHETIC: trained on generated data" : "",
                      info.leaky != 0 ? "; LEAKY: reads what is only known after the fact" : ""),
               {{"name", name},
                {"bytes", info.blob_bytes},
                {"session_bytes", info.session_bytes},
                {"scratch_bytes", info.scratch_bytes},
                {"model_id", info.model_id},
                {"synthetic", info.synthetic != 0},
                {"leaky", info.leaky != 0}},
               json_path);
}

}  // namespace

void add_export(CLI::App& app) {
  struct Options {
    std::string model, file, name, json;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a blob as a C header, for firmware: the array, and the memory it needs");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command->add_option("--c-array", options->file, "The header to write, for C99 and C++")->required();
  command->add_option("--name", options->name,
                      "The array's name, and in capitals the prefix of the constants; as the model's file if "
                      "not given");
  command->add_option("--json", options->json, "Write the sizes as JSON to a file, or - for stdout");
  command->callback([options] { export_model(options->model, options->file, options->name, options->json); });
}

}  // namespace tonearm
