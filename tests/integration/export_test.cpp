// `tonearm export`: a header that C and C++ compile without a warning, and that holds the very blob.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <algorithm>
#include <cstdlib>

#include "base/files.h"
#include "command.h"
#include "emit/emit.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) {
  return fs::path(TONEARM_SOURCE_DIR) / "tests" / "conformance" / (name + ".tarm");
}
const fs::path session_blob = golden("format-1.3/session-recurrent-int8");
const fs::path table_blob = golden("format-1.0/encoders");

/// A golden blob with another card.
fs::path blob_with_card(const Folder& folder, const std::string& name, const std::string& label, bool leaky) {
  schema::ModelT model;
  schema::GetModel(read_file(table_blob).data())->UnPackTo(&model);
  model.card->name = name;
  model.card->label = label;
  model.card->leaky = leaky;
  write_file(folder / "card.tarm", pack(model));
  return folder / "card.tarm";
}

/// One line on stderr, status 1, and no file.
void expect_refused(const Folder& folder, const Arguments& arguments, const std::string& part) {
  const Result result = run(Arguments{"export"} + arguments);
  EXPECT_EQ(result.status, 1) << result.out;
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(contains(result.error, part));
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1);
  EXPECT_FALSE(fs::exists(folder / "model.h"));
}

/// The status of a shell's command.
int shell(const std::string& command) { return std::system(command.c_str()); }

const std::string warnings = " -Wall -Wextra -Wpedantic -Werror";
const std::string headers = " -I" TONEARM_SOURCE_DIR "/runtime/include";

TEST(Export, TheArrayIsTheBlob) {
  const Folder folder;
  const Result result = run_well({"export", session_blob, "--c-array", folder / "model.h", "--name", "skip"});
  EXPECT_TRUE(contains(result.out, "the array skip, 11136 bytes"));
  // The program compares it with the file, in every language that the header claims to be written in.
  write_file(folder / "main.c", R"(#include "model.h"
#include <stdint.h>
#include <stdio.h>
#include <tonearm/tonearm.h>
int main(void) {
    static uint32_t session[SKIP_SESSION_BYTES / 4], scratch[(SKIP_SCRATCH_BYTES + 3) / 4];
    fwrite(skip, 1, sizeof skip, stdout);
    if ((uintptr_t)skip % 64 != 0 || sizeof skip != SKIP_BYTES || SKIP_MODEL_ID == 0) return 1;
    return sizeof session == 144 && sizeof scratch == 1616 ? 0 : 2;
}
)");
  for (const std::string language :
       {"-x c -std=c99", "-x c -std=c11", "-x c++ -std=c++11", "-x c++ -std=c++20"}) {
    SCOPED_TRACE(language);
    const std::string program = folder / "program", copy = folder / "copy.tarm";
    ASSERT_EQ(shell(TONEARM_C_COMPILER + warnings + headers + " " + language + " " +
                    (folder / "main.c").string() + " -o " + program),
              0);
    ASSERT_EQ(shell(program + " > " + copy), 0);
    EXPECT_TRUE(read_file(copy) == read_file(session_blob));
  }
}

TEST(Export, TheConstantsAreThoseOfTheLibrary) {
  const Folder folder;
  const Blob blob(read_file(session_blob), session_blob);
  const nlohmann::json sizes =
      run_well({"export", session_blob, "--c-array", folder / "model.h", "--name", "Skip2", "--json", "-"})
          .json();
  const std::string text = text_of(folder / "model.h");
  const auto defines = [&](const std::string& constant, std::size_t value) {
    return contains(text, "#define SKIP2_" + constant + " " + std::to_string(value) + "\n");
  };
  EXPECT_TRUE(defines("BYTES", blob.bytes().size()));
  EXPECT_TRUE(defines("SESSION_BYTES", tonearm_session_size(&blob.model())));
  EXPECT_TRUE(defines("SCRATCH_BYTES", tonearm_scratch_size(&blob.model())));
  EXPECT_TRUE(contains(text, "#define SKIP2_MODEL_ID 0xc2b990aeu"));
  EXPECT_EQ(sizes["name"], "Skip2");
  EXPECT_EQ(sizes["session_bytes"], tonearm_session_size(&blob.model()));
  EXPECT_EQ(sizes["scratch_bytes"], tonearm_scratch_size(&blob.model()));
  EXPECT_EQ(sizes["model_id"], blob.info().model_id);
}

TEST(Export, ANameComesFromTheFileIfNoneIsGiven) {
  const Folder folder;
  fs::copy(table_blob, folder / "hit-boosted.2.tarm");
  run_well({"export", folder / "hit-boosted.2.tarm", "--c-array", folder / "model.h"});
  const std::string text = text_of(folder / "model.h");
  EXPECT_TRUE(contains(text, "unsigned char hit_boosted_2[HIT_BOOSTED_2_BYTES]"));
  EXPECT_TRUE(contains(text, "#define HIT_BOOSTED_2_SESSION_BYTES 0 "));
  EXPECT_FALSE(contains(text, "session["));
}

TEST(Export, TheSameBlobGivesTheSameBytes) {
  const Folder folder;
  run_well({"export", table_blob, "--c-array", folder / "model.h", "--name", "m"});
  run_well({"export", table_blob, "--c-array", folder / "again.h", "--name", "m"});
  EXPECT_TRUE(read_file(folder / "model.h") == read_file(folder / "again.h"));
}

TEST(Export, TheCommentTellsWhatTheModelIs) {
  const Folder folder;
  const fs::path blob = blob_with_card(folder, "skip", "played less than 30 s", true);
  EXPECT_TRUE(contains(run_well({"export", blob, "--c-array", folder / "model.h"}).out, "LEAKY"));
  const std::string text = text_of(folder / "model.h");
  EXPECT_TRUE(contains(text, "* name       skip\n"));
  EXPECT_TRUE(contains(text, "* label      played less than 30 s\n"));
  EXPECT_TRUE(contains(text, "* LEAKY "));
  EXPECT_TRUE(contains(text, "* SYNTHETIC "));
}

TEST(Export, NoCardEscapesFromItsComment) {
  const Folder folder;
  const std::string label = "*/ int x = 1 /* *//*/ \?\?/\n#error \\";
  run_well({"export", blob_with_card(folder, "*/", label, false), "--c-array", folder / "model.h"});
  write_file(folder / "main.c", "#include \"model.h\"\nint main(void) { return card[0] == 255; }\n");
  EXPECT_EQ(
      shell(TONEARM_C_COMPILER + warnings + " -std=c99 -x c -fsyntax-only " + (folder / "main.c").string()),
      0)
      << text_of(folder / "model.h").substr(0, 400);
}

TEST(Export, RefusesWhatIsNoName) {
  const Folder folder;
  const auto refuse = [&](const std::string& name, const std::string& why) {
    SCOPED_TRACE(name);
    expect_refused(folder, {table_blob, "--c-array", folder / "model.h", "--name=" + name}, why);
  };
  refuse("2skip", "should begin with a letter");
  refuse("_skip", "should begin with a letter");
  refuse("my model", "letters, digits and underscores");
  refuse("mod\xc3\xa8le", "letters, digits and underscores");
  refuse("float", "keeps it for itself");
  refuse("tonearm_model", "tonearm.h keeps");
  refuse(std::string(49, 'a'), "more than 48 characters");
  fs::copy(table_blob, folder / "2018.tarm");
  expect_refused(
      folder, {folder / "2018.tarm", "--c-array", folder / "model.h"},
      "'2018' cannot be the array's name: it should begin with a letter; give another one with --name");
}

TEST(Export, RefusesWhatIsNoModel) {
  const Folder folder;
  write_file(folder / "text.tarm", "no model");
  expect_refused(folder, {folder / "text.tarm", "--c-array", folder / "model.h"}, "text.tarm: ");
  expect_refused(folder, {folder / "none.tarm", "--c-array", folder / "model.h"}, "none.tarm");
  expect_refused(folder, {table_blob, "--c-array", folder / "no" / "model.h"}, "no/model.h");
}

TEST(Export, DoesNotOverwriteTheModel) {
  const Folder folder;
  fs::copy(table_blob, folder / "m.tarm");
  expect_refused(folder, {folder / "m.tarm", "--c-array", folder / "m.tarm"}, "is the model itself");
  EXPECT_TRUE(read_file(folder / "m.tarm") == read_file(table_blob));
}

}  // namespace
}  // namespace tonearm
