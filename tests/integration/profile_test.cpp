// tonearm-profile and `tonearm profile`, run as a person would: on files, through a pipe, from one to the
// other, and on bad input.

#include <gtest/gtest.h>

#include <fstream>

#include "command.h"

namespace tonearm {
namespace {

// command.h runs one program. Here that is a shell, which becomes the program that is given, with a file as
// its input.
Result run_program(const char* program, const Arguments& arguments, const std::string& input = "/dev/null") {
  return run(Arguments{"-c", "exec \"$@\" < \"$0\"", input, program} + arguments);
}
Result profile(const Arguments& arguments, const std::string& input = "/dev/null") {
  return run_program(TONEARM_PROFILE, arguments, input);
}
Result command(const Arguments& arguments) {
  return run_program(TONEARM_PROGRAM, Arguments{"profile"} + arguments);
}

const std::string golden = TONEARM_SOURCE_DIR "/tests/conformance/";
const std::string table = golden + "format-1.0/network.tarm",
                  session = golden + "format-1.3/session-recurrent-int8.tarm";
const Arguments quick = {"--runs", "20", "--cold-runs", "2", "--evict", "1"};

TEST(ProfileProgram, PrintsATableAndWritesJson) {
  Folder folder;
  const Result result = profile(Arguments{session, "--json", folder / "a.json"} + quick);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_EQ(result.error, "");
  for (const char* text :
       {"a track ends", "predict, queue of 20", "Parts of the phase history", "Stack, bytes:"})
    EXPECT_NE(result.out.find(text), std::string::npos) << text;
  const auto json = nlohmann::json::parse(text_of(folder / "a.json"));
  EXPECT_EQ(json["tonearm_profile"], 1);
  EXPECT_EQ(json["model"]["name"], "session-recurrent-int8");
  // The temporary file is gone.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / ""), {}), 1);
}

TEST(ProfileProgram, ReadsTheModelFromAPipe) {
  const Result result = profile(Arguments{"-", "--json", "-", "--device", "a shelf"} + quick, session);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_EQ(result.json()["device"]["name"], "a shelf");
}

TEST(ProfileProgram, ReadsRowsAndLogs) {
  Folder folder;
  const auto info = profile(Arguments{table, "--json", "-"} + quick).json();
  const std::size_t columns = info["model"]["columns"];
  ASSERT_GT(columns, 0u);
  ASSERT_EQ(run_program(TONEARM_PROGRAM,
                        {"synth", "sessions", "--count", "5", "--seed", "1", "--out", folder / "s"})
                .status,
            0);
  const Result logs = profile(Arguments{session, "--session", folder / "s/log_synthetic_00000.csv",
                                        "--tracks", folder / "s/tf_synthetic_00000.csv", "--json", "-"} +
                              quick);
  ASSERT_EQ(logs.status, 0) << logs.error;
  EXPECT_EQ(logs.json()["workload"]["source"].get<std::string>().find("log_synthetic_00000.csv: 5 sessions"),
            0u);

  const auto inspected = run_program(TONEARM_PROGRAM, {"inspect", table, "--json", "-"}).json();
  std::ofstream rows(folder / "rows.csv");
  rows << "\"a, \"\"quoted\"\" name\"";
  for (const auto& name : inspected["columns"]) rows << ',' << name.get<std::string>();
  for (int i = 0; i < 3; ++i) {
    rows << "\n\"x, y\"";
    for (std::size_t c = 0; c < columns; ++c) rows << ',' << i;
  }
  rows.close();
  const Result read = profile(Arguments{table, "--rows", folder / "rows.csv", "--json", "-"} + quick);
  ASSERT_EQ(read.status, 0) << read.error;
  EXPECT_EQ(read.json()["workload"]["rows"], 3);
}

TEST(ProfileProgram, WhatIsNotMeasuredIsSaid) {
  const Result result = profile({table, "--runs", "5", "--evict", "0", "--json", "-"});
  ASSERT_EQ(result.status, 0) << result.error;
  const auto json = result.json();
  EXPECT_EQ(json["evicted_bytes"], 0);
  for (const auto& part : json["parts"]) EXPECT_TRUE(part["cold"].is_null());
  bool cold = false, counted = true;
  for (const auto& remark : json["not_measured"]) {
    cold |= remark["what"] == "cold times";
    counted &= remark["what"] != "instructions";
  }
  EXPECT_TRUE(cold);
  for (const auto& part : json["parts"]) EXPECT_EQ(part["instructions"].is_object(), counted);
}

TEST(ProfileProgram, TheKernelsCanBeChosen) {
  const Result result = profile(Arguments{session, "--cpu", "scalar", "--json", "-"} + quick);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_EQ(result.json()["model"]["kernels"], "scalar");
}

TEST(ProfileProgram, BadInputIsOneSentenceAndOne) {
  Folder folder;
  std::ofstream(folder / "bad.tarm") << "no model";
  std::ofstream(folder / "bad.csv") << "a,b\n1,2\n";
  const std::vector<Arguments> cases = {
      {folder / "none.tarm"},
      {folder / "bad.tarm"},
      {"-"},
      {session, "--session", folder / "none.csv"},
      {session, "--session", folder / "bad.csv"},
      {session, "--rows", folder / "bad.csv"},
      {table, "--rows", folder / "bad.csv"},
      {table, "--session", folder / "bad.csv"},
      {table, "--json", folder / "none/a.json", "--runs", "1", "--evict", "0"}};
  for (const Arguments& arguments : cases) {
    const Result result = profile(arguments);
    EXPECT_EQ(result.status, 1) << ::testing::PrintToString(arguments);
    EXPECT_EQ(result.error.rfind("tonearm-profile: ", 0), 0u) << result.error;
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  }
}

TEST(ProfileProgram, WrongUsageIsTwo) {
  const std::vector<Arguments> cases = {{},
                                        {table, table},
                                        {table, "--runs"},
                                        {table, "--runs", "0"},
                                        {table, "--runs", "-3"},
                                        {table, "--runs", "3x"},
                                        {table, "--queue", "1001"},
                                        {table, "--cpu", "abacus"},
                                        {table, "--frobnicate", "1"},
                                        {table, "--tracks", "x.csv"}};
  for (const Arguments& arguments : cases) {
    const Result result = profile(arguments);
    EXPECT_EQ(result.status, 2) << ::testing::PrintToString(arguments);
    EXPECT_NE(result.error.find("see --help"), std::string::npos) << result.error;
  }
  const Result help = profile({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("usage: tonearm-profile"), std::string::npos);
}

TEST(ProfileCommand, ShowsWhatADeviceMeasured) {
  Folder folder;
  ASSERT_EQ(profile(Arguments{session, "--json", folder / "a.json", "--device", "a shelf"} + quick).status,
            0);
  ASSERT_EQ(profile(Arguments{table, "--json", folder / "b.json", "--device", "a table"} + quick).status, 0);
  const Result result =
      command({"--from", folder / "a.json", folder / "b.json", "--report", folder / "page.html"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_NE(result.out.find("a shelf"), std::string::npos);
  EXPECT_NE(result.out.find("a table"), std::string::npos);
  const std::string page = text_of(folder / "page.html");
  EXPECT_NE(page.find("<h2>session-recurrent-int8 on a shelf</h2>"), std::string::npos);
  EXPECT_NE(page.find("<h2>network on a table</h2>"), std::string::npos);
}

TEST(ProfileCommand, MeasuresHere) {
  Folder folder;
  const Result result =
      command(Arguments{session, "--report", folder / "page.html", "--json", folder / "a.json"} + quick);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_NE(result.out.find("recurrent network, int8"), std::string::npos);
  EXPECT_NE(text_of(folder / "page.html").find("</html>"), std::string::npos);
  // It is the JSON of the program, and can be shown again.
  const Result again = command({"--from", folder / "a.json"});
  EXPECT_EQ(again.status, 0) << again.error;
}

TEST(ProfileCommand, BadInputIsRefused) {
  Folder folder;
  std::ofstream(folder / "bad.json") << "{\"tonearm_profile\": 1}";
  const Result bad = command({"--from", folder / "bad.json", "--report", folder / "page.html"});
  EXPECT_EQ(bad.status, 1);
  EXPECT_NE(bad.error.find("bad.json: there is no field 'library'"), std::string::npos) << bad.error;
  EXPECT_FALSE(std::filesystem::exists(folder / "page.html"));
  EXPECT_EQ(command({}).status, 2);
  EXPECT_EQ(command({session, "--from", folder / "bad.json"}).status, 2);
  EXPECT_EQ(command({"--from", folder / "bad.json", "--runs", "3"}).status, 2);
  EXPECT_EQ(command({session, "--cpu", "abacus"}).status, 2);
  EXPECT_EQ(command({session, "--rows", folder / "bad.json"}).status, 1);
}

}  // namespace
}  // namespace tonearm
