#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "data/csv.h"
#include "data/split.h"
#include "data/synth_hits.h"
#include "data/table.h"
#include "folder.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;
using Record = std::vector<std::string>;

/// Unlike write_file() it does not wait for the disk.
void save(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string gzip(const std::string& text) {
  z_stream stream = {};
  deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::vector<Record> read_all(const fs::path& path, std::size_t block = 1 << 18) {
  CsvReader reader(path, block);
  std::vector<Record> records = {reader.header()};
  std::vector<std::string_view> fields;
  while (reader.next(fields)) records.emplace_back(fields.begin(), fields.end());
  return records;
}

/// Writes `text` as a file and reads it, by blocks of any size and compressed: always the same records.
std::vector<Record> parse(const std::string& text) {
  const Folder folder;
  save(folder / "a.csv", text);
  save(folder / "a.csv.gz", gzip(text));
  const std::vector<Record> records = read_all(folder / "a.csv");
  for (const std::size_t block : {1, 5, 8, 13}) {
    EXPECT_EQ(read_all(folder / "a.csv", block), records) << "in blocks of " << block;
    EXPECT_EQ(read_all(folder / "a.csv.gz", block), records) << "gzip, in blocks of " << block;
  }
  return records;
}

std::string parse_error(const std::string& text) {
  const Folder folder;
  save(folder / "a.csv", text);
  const std::string message = error_of([&] { read_all(folder / "a.csv"); });
  EXPECT_TRUE(contains(message, (folder / "a.csv").string()));
  return message;
}

// --- CSV ---------------------------------------------------------------------------------------------

TEST(Csv, ReadsTheCornersOfTheRfc) {
  const std::vector<Record> two = {{"a", "b"}, {"1", "2"}};
  EXPECT_EQ(parse("a,b\n1,2\n"), two);
  EXPECT_EQ(parse("a,b\n1,2"), two) << "no line break at the end";
  EXPECT_EQ(parse("a,b\r\n1,2\r\n"), two);
  EXPECT_EQ(parse("a,b\r\n1,2\r"), two) << "cut between carriage return and line feed";
  EXPECT_EQ(parse("\xef\xbb\xbf"
                  "a,b\n1,2\n"),
            two)
      << "byte order mark";
  EXPECT_EQ(parse("\xef\xbb\xbf"
                  "\"a\",b\n1,2\n"),
            two)
      << "byte order mark before a quote";
  EXPECT_EQ(parse("\"a\",\"b\"\r\n\"1\",\"2\"\r\n"), two);
  EXPECT_EQ(parse("\"a\",\"b\"\n\"1\",\"2\""), two);
  EXPECT_EQ(parse("a,b\n\n1,2\n\r\n\n"), two) << "blank lines";
  EXPECT_EQ(parse("\n\na,b\n1,2\n"), two) << "blank lines before the header";
  EXPECT_EQ(parse("a,b\n"), (std::vector<Record>{{"a", "b"}})) << "no records";
  EXPECT_EQ(parse("a,b"), (std::vector<Record>{{"a", "b"}}));
  EXPECT_EQ(parse("a,b\n,\n"), (std::vector<Record>{{"a", "b"}, {"", ""}}));
  EXPECT_EQ(parse("a,b\n,"), (std::vector<Record>{{"a", "b"}, {"", ""}}));
  EXPECT_EQ(parse("a,b\n\"\",\"\"\n"), (std::vector<Record>{{"a", "b"}, {"", ""}}));
  EXPECT_EQ(parse("a\n1\n\n\"\"\n2\n"), (std::vector<Record>{{"a"}, {"1"}, {""}, {""}, {"2"}}))
      << "with one column, a blank line is an empty field";
  EXPECT_EQ(parse("a,b\n\"x,y\",\"l\n\r\nm\"\n"), (std::vector<Record>{{"a", "b"}, {"x,y", "l\n\r\nm"}}));
  EXPECT_EQ(parse("a,b\n\"\"\"\",\"x\"\"y\"\"\"\n"), (std::vector<Record>{{"a", "b"}, {"\"", "x\"y\""}}));
  EXPECT_EQ(parse("a,b\n7\" mix,it's \"live\"\n"),
            (std::vector<Record>{{"a", "b"}, {"7\" mix", "it's \"live\""}}));
  EXPECT_EQ(parse("a,b\nx\ry,\"\r\"\n"), (std::vector<Record>{{"a", "b"}, {"x\ry", "\r"}}));
  EXPECT_EQ(parse("a,b\n 1 ,\xff\xfe\n"), (std::vector<Record>{{"a", "b"}, {" 1 ", "\xff\xfe"}}));
}

TEST(Csv, WhateverIsWrittenQuotedIsReadBack) {
  Random random(1);
  const std::string alphabet =
      "ab,\"\n\r \xc3\xa9"
      "0";
  for (int round = 0; round < 150; ++round) {
    const std::size_t columns = 1 + random.below(5);
    std::vector<Record> records(1 + random.below(8), Record(columns));
    for (std::size_t i = 0; i < columns; ++i) records[0][i] = std::to_string(i);
    for (std::size_t r = 1; r < records.size(); ++r)
      for (std::string& field : records[r])
        for (std::uint32_t size = random.below(12); size > 0; --size)
          field += alphabet[random.below(static_cast<std::uint32_t>(alphabet.size()))];
    std::string text;
    for (const Record& record : records) {
      for (std::size_t i = 0; i < columns; ++i) {
        text += i > 0 ? "," : "";
        if (record[i].find_first_of(",\"\n\r") == record[i].npos && columns > 1 && random.below(2) == 0) {
          text += record[i];
          continue;
        }
        text += '"';
        for (const char c : record[i]) text += c == '"' ? std::string("\"\"") : std::string(1, c);
        text += '"';
      }
      text += random.below(2) == 0 ? "\n" : "\r\n";
    }
    if (random.below(2) == 0) text.pop_back();
    ASSERT_EQ(parse(text), records) << text;
  }
}

TEST(Csv, LineNumbersCountTheLinesInsideQuotedFields) {
  const Folder folder;
  save(folder / "a.csv", "a,b\n1,2\n\"x\ny\n\",3\n\n\n4,5\n");
  CsvReader reader(folder / "a.csv");
  std::vector<std::string_view> fields;
  std::vector<std::size_t> lines;
  while (reader.next(fields)) lines.push_back(reader.line());
  EXPECT_EQ(lines, (std::vector<std::size_t>{2, 3, 8}));
}

TEST(Csv, MalformedTextIsRefusedWithItsLine) {
  EXPECT_TRUE(contains(parse_error(""), "is empty"));
  EXPECT_TRUE(contains(parse_error("\xef\xbb\xbf"), "is empty"));
  EXPECT_TRUE(contains(parse_error("\n\r\n\n"), "is empty"));
  EXPECT_TRUE(contains(parse_error("a,b,a\n1,2,3\n"), "line 1: the header names the column 'a' twice"));
  EXPECT_TRUE(contains(parse_error("a,b\n1,2\n1,2,3\n"),
                       "line 3: expected 2 fields, as the header has, but found 3"));
  EXPECT_TRUE(contains(parse_error("a,b\n1\n"), "line 2: expected 2 fields, as the header has, but found 1"));
  EXPECT_TRUE(contains(parse_error(std::string("a,b\n1,2\0\n", 9)), "line 2: a zero byte"));
  EXPECT_TRUE(contains(parse_error(std::string("a,b\n1,\"\n\0\"\n", 12)), "line 2: a zero byte"));
  EXPECT_TRUE(contains(parse_error(std::string("\xff\xfe"
                                               "a\0,\0b\0\n\0",
                                               10)),
                       "UTF-16"));
  EXPECT_TRUE(contains(parse_error("a,b\n1,2\n\"x\"y,3\n"), "line 3: text follows a closing quote"));
  EXPECT_TRUE(
      contains(parse_error("a,b\n1,2\n\"x\",\"3\n4,5\n"), "line 3: a quote that opens here is never closed"));
  EXPECT_TRUE(contains(parse_error("a,b\n1,\""), "line 2: a quote that opens here is never closed"));
}

TEST(Csv, ARecordAboveOneMebibyteIsRefusedAndOneBelowIsRead) {
  const std::string almost(CsvReader::longest_record - 10, 'x');
  EXPECT_EQ(parse("a,b\n" + almost + ",2\n3,4\n"),
            (std::vector<Record>{{"a", "b"}, {almost, "2"}, {"3", "4"}}));
  EXPECT_TRUE(contains(parse_error("a,b\n1,2\n" + almost + "0123456789,2\n"),
                       "line 3: the record that begins here is longer than 1 MiB"));
  std::string runaway = "a,b\n\"1,2\n";
  for (int i = 0; i < 300000; ++i) runaway += "3,4\n";
  EXPECT_TRUE(contains(parse_error(runaway), "line 2: "));
}

TEST(Csv, AnAbsentFileOrAFolderIsRefused) {
  const Folder folder;
  EXPECT_TRUE(contains(error_of([&] { CsvReader reader(folder / "a.csv"); }), "No such file or directory"));
  EXPECT_TRUE(contains(error_of([&] { CsvReader reader(folder.path()); }), "Is a directory"));
}

std::string some_csv(std::size_t rows) {
  Random random(2);
  std::string text = "a,b\n";
  for (std::size_t i = 0; i < rows; ++i)
    text += std::to_string(random.below(1000000)) + "," + std::to_string(random.uniform()) + "\n";
  return text;
}

TEST(CsvGzip, TruncatedAnywhereIsRefused) {
  const Folder folder;
  for (const std::size_t rows : {5u, 30000u}) {
    const std::string packed = gzip(some_csv(rows));
    const std::size_t step = packed.size() / 200 + 1;
    for (std::size_t size = 0; size < packed.size();
         size += (size < 20 || size + 20 > packed.size()) ? 1 : step) {
      save(folder / "a.csv.gz", packed.substr(0, size));
      const std::string message = error_of([&] { read_all(folder / "a.csv.gz"); });
      ASSERT_TRUE(contains(message, (folder / "a.csv.gz").string()));
      ASSERT_TRUE(contains(message, size < 2 ? "does not begin as a gzip file" : "truncated")) << size;
    }
  }
}

TEST(CsvGzip, EveryFlippedByteOfTheTrailerIsNoticed) {
  const Folder folder;
  const std::string packed = gzip(some_csv(1000));
  for (std::size_t i = packed.size() - 8; i < packed.size(); ++i) {
    std::string damaged = packed;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    save(folder / "a.csv.gz", damaged);
    ASSERT_TRUE(contains(error_of([&] { read_all(folder / "a.csv.gz"); }), "damaged")) << i;
  }
}

TEST(CsvGzip, SeveralMembersAreOneFileAndAnythingElseBehindIsRefused) {
  const Folder folder;
  const std::string first = "a,b\n1,\"2", second = "3\"\n4,5\n";
  save(folder / "a.csv.gz", gzip(first) + gzip("") + gzip(second));
  EXPECT_EQ(read_all(folder / "a.csv.gz"), (std::vector<Record>{{"a", "b"}, {"1", "23"}, {"4", "5"}}));
  save(folder / "a.csv.gz", gzip(first + second) + "tail");
  EXPECT_TRUE(contains(error_of([&] { read_all(folder / "a.csv.gz"); }), "damaged"));
  save(folder / "a.csv.gz", gzip(first) + gzip(second).substr(0, 1));
  EXPECT_TRUE(contains(error_of([&] { read_all(folder / "a.csv.gz"); }), "truncated"));
}

TEST(CsvGzip, WhatAFileHoldsDecidesNotItsNameExceptForPlainTextCalledGz) {
  const Folder folder;
  save(folder / "a.csv", gzip("a,b\n1,2\n"));
  EXPECT_EQ(read_all(folder / "a.csv"), (std::vector<Record>{{"a", "b"}, {"1", "2"}}));
  save(folder / "b.csv.gz", "a,b\n1,2\n");
  EXPECT_TRUE(contains(error_of([&] { read_all(folder / "b.csv.gz"); }), "its name says gzip"));
}

// --- Numbers -----------------------------------------------------------------------------------------

TEST(ParseNumber, RoundsLikeTheStandardLibrary) {
  Random random(3);
  for (int i = 0; i < 100000; ++i) {
    char text[64];
    if (i % 2 == 0)
      std::snprintf(text, sizeof text, "%.*g", static_cast<int>(1 + random.below(20)),
                    std::ldexp(random.uniform() - .5, static_cast<int>(random.below(290)) - 155));
    else
      std::snprintf(text, sizeof text, "%.9g",
                    std::bit_cast<float>(static_cast<std::uint32_t>(random.next() >> 32) & 0xff7fffffu));
    float value = 7;
    ASSERT_TRUE(parse_number(text, value)) << text;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(std::strtof(text, nullptr)))
        << text;
  }
}

TEST(ParseNumber, KnowsMissingTextAndTooLargeApart) {
  const auto number = [](std::string_view text) {
    float value = 7;
    EXPECT_TRUE(parse_number(text, value)) << text;
    return value;
  };
  for (const char* text : {"", " ", "NA", "NaN", "nan", "null"})
    EXPECT_TRUE(std::isnan(number(text))) << text;
  for (const char* text : {"inf", "-inf", "Infinity", "1e39", "-1e39", "1e999", "3.4028236e38"})
    EXPECT_TRUE(std::isinf(number(text))) << text;
  for (const char* text : {"1e-60", "-1e-60", "1e-999", "0", "-0", "0.0"}) EXPECT_EQ(number(text), 0) << text;
  EXPECT_EQ(number("+1.5"), 1.5f);
  EXPECT_EQ(number(" 2\t"), 2);
  EXPECT_EQ(number("4.42E-06"), 4.42e-6f);
  EXPECT_EQ(number("1e-45"), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(number(".5"), .5f);
  EXPECT_EQ(number("5."), 5);
  for (const char* text :
       {"x", "1x", "1,5", "1 2", "0x10", "1e", "-", "+", "+-1", "--1", "true", "n/a", "1e999x", "."}) {
    float value;
    EXPECT_FALSE(parse_number(text, value)) << text;
  }
}

// --- Tables ------------------------------------------------------------------------------------------

struct TableTest : ::testing::Test {
  Folder folder;
  TableSpec spec;

  TableTest() {
    spec.path = folder.path();
    spec.columns = {{"x"}, {"genre", ColumnType::category}};
    spec.target = "hit";
    spec.groups = {"uri"};
  }
  void write(const std::string& name, const std::string& text) { save(folder / name, text); }
  std::string error() {
    return error_of([&] { read_table(spec); });
  }
};

TEST_F(TableTest, ReadsColumnsByNameFromFilesInTheOrderOfTheirNames) {
  write("2.csv", "hit,genre,x,uri,more\n1,rock,2.5,u3,?\n0,,nan,u1,?\n");
  write("1.csv", "x,more,genre,uri,hit\n-1,?,zydeco,u1,0\n,?,jazz,u2,1\n");
  write("notes.txt", "not a table");
  write(".hidden.csv", "not a table");
  fs::create_directory(folder / "folder.csv");
  const Table table = read_table(spec);
  ASSERT_EQ(table.rows, 4u);
  EXPECT_EQ(table.files, (std::vector<fs::path>{folder / "1.csv", folder / "2.csv"}));
  EXPECT_EQ(table.target, (std::vector<float>{0, 1, 1, 0}));
  EXPECT_EQ(table.columns[0].values[0], -1);
  EXPECT_TRUE(std::isnan(table.columns[0].values[1]));
  EXPECT_EQ(table.columns[0].values[2], 2.5f);
  EXPECT_TRUE(std::isnan(table.columns[0].values[3]));
  EXPECT_EQ(table.columns[1].vocabulary, (std::vector<std::string>{"jazz", "rock", "zydeco"}));
  EXPECT_EQ(table.columns[1].values[0], 2);
  EXPECT_EQ(table.columns[1].values[1], 0);
  EXPECT_EQ(table.columns[1].values[2], 1);
  EXPECT_TRUE(std::isnan(table.columns[1].values[3]));
  EXPECT_EQ(table.groups[0].hashes[0], table.groups[0].hashes[3]);
  EXPECT_EQ(std::set(table.groups[0].hashes.begin(), table.groups[0].hashes.end()).size(), 3u);
  EXPECT_EQ(table.find("x"), &table.columns[0]);
  EXPECT_EQ(table.find("more"), nullptr);
}

TEST_F(TableTest, CompressedFilesMatchTheSamePattern) {
  spec.files = "*dataset-of-*.csv";
  write("dataset-of-60s.csv", "x,genre,uri,hit\n1,a,u,0\n");
  write("synthetic-dataset-of-70s.csv.gz", gzip("x,genre,uri,hit\n2,a,u,1\n"));
  write("dataset-of-80s.csv.zip", "not this");
  write("other.csv", "nor this");
  EXPECT_EQ(read_table(spec).columns[0].values, (std::vector<float>{1, 2}));
  write("dataset-of-60s.csv.gz", gzip("x,genre,uri,hit\n1,a,u,0\n"));
  EXPECT_TRUE(contains(error(), "the same file twice, as dataset-of-60s.csv.gz"));
}

TEST_F(TableTest, OneFileMayBeNamedDirectly) {
  write("rows.txt", "x,genre,uri,hit\n1,a,u,0\n");
  spec.path = folder / "rows.txt";
  EXPECT_EQ(read_table(spec).rows, 1u);
}

TEST_F(TableTest, FiltersAndExtraColumns) {
  write("1.csv", "x,genre,uri,hit,decade\n1,a,u,0,1990\n2,b,u,1,2000\n3,c,u,1,2010\n4,d,u,0,\n");
  spec.extra = {"decade"};
  spec.filters = {{"decade", {2000, 2010}}, {"hit", {1}}};
  const Table table = read_table(spec);
  EXPECT_EQ(table.columns[0].values, (std::vector<float>{2, 3}));
  EXPECT_EQ(table.columns[1].vocabulary, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(table.find("decade")->values, (std::vector<float>{2000, 2010}));
  spec.filters = {{"decade", {1980}}};
  EXPECT_TRUE(contains(error(), "has no rows that pass the filters"));
}

TEST_F(TableTest, AGivenVocabularyStaysAndUnknownTextIsMissing) {
  write("1.csv", "x,genre,uri,hit\n1,b,u,0\n2,new,u,1\n3,a,u,1\n4,,u,1\n");
  spec.columns[1].vocabulary = {"b", "unused", "a"};
  Table table = read_table(spec);
  EXPECT_EQ(table.columns[1].vocabulary, (std::vector<std::string>{"b", "unused", "a"}));
  EXPECT_EQ(table.columns[1].values[0], 0);
  EXPECT_TRUE(std::isnan(table.columns[1].values[1]));
  EXPECT_EQ(table.columns[1].values[2], 2);
  EXPECT_TRUE(std::isnan(table.columns[1].values[3]));
  keep_trained_categories(table, std::vector<std::size_t>{2});
  EXPECT_EQ(table.columns[1].vocabulary.size(), 3u);
}

TEST_F(TableTest, CategoriesOnlySeenInHeldOutRowsAreForgotten) {
  write("1.csv", "x,genre,uri,hit\n1,d,u,0\n2,b,u,1\n3,c,u,1\n4,a,u,1\n5,d,u,1\n6,,u,1\n");
  Table table = read_table(spec);
  keep_trained_categories(table, std::vector<std::size_t>{0, 1, 5});
  EXPECT_EQ(table.columns[1].vocabulary, (std::vector<std::string>{"b", "d"}));
  EXPECT_EQ(table.columns[1].values[0], 1);
  EXPECT_EQ(table.columns[1].values[1], 0);
  EXPECT_TRUE(std::isnan(table.columns[1].values[2]));
  EXPECT_TRUE(std::isnan(table.columns[1].values[3]));
  EXPECT_EQ(table.columns[1].values[4], 1);
  EXPECT_TRUE(std::isnan(table.columns[1].values[5]));
}

TEST_F(TableTest, WhereTheTargetIsNotRequiredItMayBeAbsentOrUnknown) {
  spec.target_required = false;
  write("1.csv", "x,genre,uri\n1,a,u\n");
  write("2.csv", "x,genre,uri,hit\n1,a,u,\n1,a,u,1\n");
  const Table table = read_table(spec);
  EXPECT_TRUE(std::isnan(table.target[0]));
  EXPECT_TRUE(std::isnan(table.target[1]));
  EXPECT_EQ(table.target[2], 1);
  write("3.csv", "x,genre,uri,hit\n1,a,u,2\n");
  EXPECT_TRUE(contains(error(), "expected 0 or 1"));
}

TEST_F(TableTest, AMissingColumnIsNamedWithTheNearestAndThoseThere) {
  write("1.csv", "x,genre,uri,hit\n1,a,u,0\n");
  write("2.csv", "x,genres,uri,hit\n1,a,u,0\n");
  EXPECT_EQ(error(), (folder / "2.csv").string() +
                         ": there is no column 'genre' (did you mean 'genres'?); it has x, genres, uri, hit");
  for (const char* header : {"x,genre,uri,label", "x,genre,id,hit", "loudness,genre,uri,hit"}) {
    write("2.csv", std::string(header) + "\n1,a,0,0\n");
    EXPECT_TRUE(contains(error(), "there is no column '")) << header;
  }
}

TEST_F(TableTest, ABadCellIsNamedWithFileLineColumnAndText) {
  const auto with = [&](const std::string& row) {
    write("1.csv", "x,genre,uri,hit\n1,a,u,0\n" + row + "\n");
    const std::string message = error();
    EXPECT_TRUE(contains(message, (folder / "1.csv").string() + ", line 3, column '"));
    return message;
  };
  EXPECT_TRUE(contains(with("loud,a,u,0"), "column 'x': expected a number, but found 'loud'"));
  EXPECT_TRUE(contains(with("inf,a,u,0"), "column 'x': expected a finite number"));
  EXPECT_TRUE(contains(with("1e40,a,u,0"), "column 'x': expected a finite number"));
  EXPECT_TRUE(contains(with("1,a,u,2"), "column 'hit': expected 0 or 1, as in every target, but found '2'"));
  EXPECT_TRUE(contains(with("1,a,u,"), "column 'hit': expected 0 or 1, as in every target, but found ''"));
  EXPECT_TRUE(contains(with("1,a,u,yes"), "column 'hit': expected a number, but found 'yes'"));
  EXPECT_TRUE(contains(with(std::string(100, 'x') + ",a,u,0"), "found '" + std::string(60, 'x') + "...'"));
}

TEST_F(TableTest, NothingToReadIsRefused) {
  EXPECT_TRUE(contains(error(), "no file in " + folder.path().string() + " is named like '*.csv'"));
  write("1.csv", "x,genre,uri,hit\n");
  EXPECT_TRUE(contains(error(), "has no rows"));
  write("2.csv", "");
  EXPECT_TRUE(contains(error(), "2.csv is empty"));
  spec.path = folder / "absent";
  EXPECT_TRUE(contains(error(), "there is no file or folder"));
}

TEST_F(TableTest, IdentityDependsOnTheCellsOnly) {
  write("1.csv", "x,genre,uri,hit\n1,a,u,0\n2,b,v,1\n0.5,b,w,1\n");
  const Table before = read_table(spec);
  write("1.csv", "hit,uri,genre,x\n1,w,b,5e-1\n0,u,a,1.0\n1,v,b,2\n");
  write("2.csv", "hit,uri,genre,x\n1,v,AA,2\n");  // changes the vocabulary's numbering
  std::reverse(spec.columns.begin(), spec.columns.end());
  const Table after = read_table(spec);
  EXPECT_EQ(before.identity[0], after.identity[1]);
  EXPECT_EQ(before.identity[1], after.identity[2]);
  EXPECT_EQ(before.identity[2], after.identity[0]);
}

TEST_F(TableTest, IdentityChangesWithAnyCell) {
  write("1.csv",
        "x,genre,uri,hit\n1,a,u,0\n-1,a,u,0\n,a,u,0\n1,b,u,0\n1,,u,0\n1,a,v,0\n1,a,u,1\n1,u,a,0\n0,a,u,1\n");
  const Table table = read_table(spec);
  EXPECT_EQ(std::set(table.identity.begin(), table.identity.end()).size(), table.rows);
}

TEST_F(TableTest, UnusableTrainingRowsAreNoticed) {
  write("1.csv", "x,genre,uri,hit\n1.5,a,u,1\n1.5,a,u,1\n1.5,b,u,0\n,a,u,1\n");
  const Table table = read_table(spec);
  const auto check = [&](std::vector<std::size_t> rows) { return require_usable(table, rows); };
  EXPECT_EQ(
      error_of([&] {
        check({0, 1, 3});
      }),
      "the target column 'hit' is 1 in all 3 training rows; a predictor needs examples of both 0 and 1");
  EXPECT_TRUE(contains(error_of([&] { check({}); }), "no rows"));
  EXPECT_TRUE(check({0, 1, 2, 3}).empty());
  const std::vector<std::string> warnings = check({0, 1, 2});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "the column 'x' is 1.5 in all 3 training rows and cannot help the prediction");
}

TEST_F(TableTest, AConstantCategoryOrAnEmptyColumnIsNamed) {
  write("1.csv", "x,genre,uri,hit\n,a,u,1\nNA,a,u,0\n");
  const std::vector<std::string> warnings = require_usable(read_table(spec), std::vector<std::size_t>{0, 1});
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_TRUE(contains(warnings[0], "the column 'x' is missing in all 2"));
  EXPECT_TRUE(contains(warnings[1], "the column 'genre' is 'a' in all 2"));
}

TEST(HashText, IsFrozenBecauseCardsHoldDigestsOfIt) {
  // mix64 of the published FNV-1a values of "" and "foobar".
  EXPECT_EQ(hash_text(""), mix64(0xcbf29ce484222325u));
  EXPECT_EQ(hash_text("foobar"), mix64(0x85944171f73967e8u));
}

// --- Splits ------------------------------------------------------------------------------------------

/// A table of `rows` rows with groups of 1 to 20 rows ("artist", "uri" within), a number x and a decade.
Table grouped_table(std::size_t rows) {
  Random random(7);
  Table table;
  table.rows = rows;
  table.columns = {{"x", ColumnType::number, {}, false, {}}};
  table.extra = {{"decade", ColumnType::number, {}, false, {}}};
  table.groups = {{"artist", {}}, {"uri", {}}};
  for (std::size_t row = 0; row < rows; ++row) {
    const std::uint64_t artist = random.below(static_cast<std::uint32_t>(rows / 4));
    table.columns[0].values.push_back(static_cast<float>(random.normal()));
    table.extra[0].values.push_back(1960 + 10 * static_cast<float>(random.below(6)));
    table.groups[0].hashes.push_back(hash_text("artist " + std::to_string(artist)));
    table.groups[1].hashes.push_back(
        hash_text("track " + std::to_string(artist) + " " + std::to_string(random.below(9))));
    table.target.push_back(static_cast<float>(row % 2));
    table.identity.push_back(hash_text("row " + std::to_string(row)));
  }
  return table;
}

std::set<std::uint64_t> values_of(const std::vector<std::uint64_t>& hashes,
                                  const std::vector<std::size_t>& rows) {
  std::set<std::uint64_t> values;
  for (const std::size_t row : rows) values.insert(hashes[row]);
  return values;
}

bool share_any(const std::set<std::uint64_t>& a, const std::set<std::uint64_t>& b) {
  return std::any_of(a.begin(), a.end(), [&](std::uint64_t value) { return b.contains(value); });
}

TEST(Split, GroupsNeverStraddleAndTheShareIsMet) {
  const Table table = grouped_table(20000);
  for (const double share : {.1, .25, .5}) {
    for (std::uint32_t seed = 1; seed <= 5; ++seed) {
      SplitSpec spec;
      spec.group = "artist";
      spec.share = share;
      spec.validation = .2;
      const Split split = make_split(table, spec, seed);
      EXPECT_EQ(split.training.size() + split.validation.size() + split.held_out.size(), table.rows);
      EXPECT_EQ(split.dropped, 0u);
      const auto rows = static_cast<double>(table.rows);
      EXPECT_NEAR(static_cast<double>(split.held_out.size()) / rows, share, .03);
      EXPECT_NEAR(static_cast<double>(split.validation.size()) / rows, .2 * (1 - share), .03);
      const auto training = values_of(table.groups[0].hashes, split.training);
      const auto validation = values_of(table.groups[0].hashes, split.validation);
      const auto held_out = values_of(table.groups[0].hashes, split.held_out);
      EXPECT_FALSE(share_any(training, validation));
      EXPECT_FALSE(share_any(training, held_out));
      EXPECT_FALSE(share_any(validation, held_out));
      EXPECT_TRUE(std::is_sorted(split.training.begin(), split.training.end()));
      EXPECT_TRUE(std::is_sorted(split.held_out.begin(), split.held_out.end()));
    }
  }
}

TEST(Split, SeedsGiveIndependentSplits) {
  const Table table = grouped_table(20000);
  SplitSpec spec;
  spec.group = "uri";
  const Split one = make_split(table, spec, 1), two = make_split(table, spec, 2);
  EXPECT_NE(one.digest, two.digest);
  std::vector<std::size_t> both;
  std::set_intersection(one.held_out.begin(), one.held_out.end(), two.held_out.begin(), two.held_out.end(),
                        std::back_inserter(both));
  EXPECT_NEAR(static_cast<double>(both.size()) / static_cast<double>(table.rows), .25 * .25, .01);
  EXPECT_EQ(make_split(table, spec, 1).held_out, one.held_out);
}

TEST(Split, DoesNotDependOnTheOrderOfRows) {
  const Table table = grouped_table(3000);
  std::vector<std::size_t> order(table.rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Random random(11);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
  Table shuffled = table;
  for (std::size_t row = 0; row < table.rows; ++row) {
    shuffled.extra[0].values[row] = table.extra[0].values[order[row]];
    for (std::size_t g = 0; g < 2; ++g) shuffled.groups[g].hashes[row] = table.groups[g].hashes[order[row]];
    shuffled.identity[row] = table.identity[order[row]];
  }
  SplitSpec by_group, by_value;
  by_group.group = "uri";
  by_group.validation = .1;
  by_value.column = "decade";
  by_value.value = 2010;
  by_value.group = "artist";
  by_value.guards = {"uri"};
  by_value.validation = .1;
  for (const SplitSpec& spec : {by_group, by_value}) {
    const Split before = make_split(table, spec, 5), after = make_split(shuffled, spec, 5);
    EXPECT_EQ(before.digest, after.digest);
    EXPECT_EQ(before.dropped, after.dropped);
    EXPECT_EQ(values_of(table.identity, before.held_out), values_of(shuffled.identity, after.held_out));
    EXPECT_EQ(values_of(table.identity, before.training), values_of(shuffled.identity, after.training));
    EXPECT_EQ(values_of(table.identity, before.validation), values_of(shuffled.identity, after.validation));
  }
  const std::vector<unsigned> folds = assign_folds(table, order, "artist", 5, 1);
  std::vector<std::size_t> all(table.rows);
  std::iota(all.begin(), all.end(), std::size_t{0});
  EXPECT_EQ(assign_folds(shuffled, all, "artist", 5, 1), folds);
}

TEST(Split, AValueIsHeldOutAndGuardsDropWhatStraddles) {
  const Table table = grouped_table(5000);
  SplitSpec spec;
  spec.column = "decade";
  spec.value = 2010;
  const Split open = make_split(table, spec, 1);
  EXPECT_TRUE(share_any(values_of(table.groups[1].hashes, open.training),
                        values_of(table.groups[1].hashes, open.held_out)))
      << "without a guard tracks straddle";
  spec.guards = {"uri"};
  const Split guarded = make_split(table, spec, 1);
  EXPECT_EQ(guarded.held_out, open.held_out);
  EXPECT_EQ(guarded.digest, open.digest);
  for (const std::size_t row : guarded.held_out) ASSERT_EQ(table.extra[0].values[row], 2010);
  for (const std::size_t row : guarded.training) ASSERT_NE(table.extra[0].values[row], 2010);
  EXPECT_FALSE(share_any(values_of(table.groups[1].hashes, guarded.training),
                         values_of(table.groups[1].hashes, guarded.held_out)));
  EXPECT_GT(guarded.dropped, 0u);
  EXPECT_EQ(guarded.training.size() + guarded.dropped + guarded.held_out.size(), table.rows);
  const auto held_out = values_of(table.groups[1].hashes, open.held_out);
  EXPECT_EQ(guarded.dropped,
            static_cast<std::size_t>(std::count_if(
                open.training.begin(), open.training.end(),
                [&](std::size_t row) { return held_out.contains(table.groups[1].hashes[row]); })))
      << "no more is dropped than straddles";
}

TEST(Split, RulesAreSaidInWords) {
  const Table table = grouped_table(1000);
  SplitSpec spec;
  EXPECT_EQ(make_split(table, spec, 3).rule, "25 % of rows, seed 3");
  spec.group = "uri";
  EXPECT_EQ(make_split(table, spec, 1).rule, "25 % of rows, grouped by uri, seed 1");
  spec.group = "artist";
  spec.guards = {"uri"};
  spec.validation = .125;
  EXPECT_EQ(
      make_split(table, spec, 1).rule,
      "25 % of rows, grouped by artist, seed 1, no uri on both sides; 12.5 % of the rest for validation");
  spec.column = "decade";
  spec.value = 2010;
  spec.validation = 0;
  EXPECT_EQ(make_split(table, spec, 1).rule, "rows with decade = 2010, no uri on both sides");
}

TEST(Split, EqualRowsStayTogetherWhereNoGroupIsNamed) {
  Table table = grouped_table(2000);
  for (std::size_t row = 0; row < table.rows; row += 2) table.identity[row] = table.identity[row + 1];
  const Split split = make_split(table, {}, 1);
  EXPECT_FALSE(
      share_any(values_of(table.identity, split.training), values_of(table.identity, split.held_out)));
}

TEST(Split, WhatCannotBeSplitIsRefused) {
  const Table table = grouped_table(100);
  const auto error = [&](const SplitSpec& spec) { return error_of([&] { make_split(table, spec, 1); }); };
  SplitSpec spec;
  spec.group = "artits";
  EXPECT_TRUE(contains(error(spec),
                       "'artits', which is not among the table's group columns (did you mean 'artist'?)"));
  for (const double share : {0.0, 1.0, -1.0, std::nan("")}) {
    spec = {};
    spec.share = share;
    EXPECT_TRUE(contains(error(spec), "must lie between 0 and 1")) << share;
  }
  spec = {};
  spec.share = 1e-9;
  EXPECT_TRUE(contains(error(spec), "leaves no held-out rows of 100"));
  spec.share = 1 - 1e-9;
  EXPECT_TRUE(contains(error(spec), "leaves no training rows of 100"));
  spec = {};
  spec.column = "decade";
  spec.value = 1850;
  EXPECT_TRUE(contains(error(spec), "(rows with decade = 1850) leaves no held-out rows"));
  spec.column = "century";
  EXPECT_TRUE(contains(error(spec), "'century', which is not a number column"));
}

TEST(Folds, AreBalancedDisjointAndDifferByOneGroupAtMost) {
  const Table table = grouped_table(5000);
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < table.rows; row += 2) rows.push_back(row);
  for (const unsigned folds : {2u, 5u, 7u}) {
    const std::vector<unsigned> fold = assign_folds(table, rows, "artist", folds, 1);
    ASSERT_EQ(fold.size(), rows.size());
    std::map<std::uint64_t, unsigned> fold_of;
    std::vector<std::size_t> groups(folds), sizes(folds);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_LT(fold[i], folds);
      ++sizes[fold[i]];
      const auto [found, fresh] = fold_of.emplace(table.groups[0].hashes[rows[i]], fold[i]);
      ASSERT_EQ(found->second, fold[i]) << "a group is in two folds";
      groups[fold[i]] += fresh;
    }
    const auto [least, most] = std::minmax_element(groups.begin(), groups.end());
    EXPECT_LE(*most - *least, 1u);
    for (const std::size_t size : sizes)
      EXPECT_NEAR(static_cast<double>(size), 2500. / folds, 2500. / folds * .2);
  }
  EXPECT_NE(assign_folds(table, rows, "artist", 5, 1), assign_folds(table, rows, "artist", 5, 2));
}

TEST(Folds, FewerGroupsThanFoldsAreRefused) {
  Table table = grouped_table(40);
  for (std::size_t row = 0; row < table.rows; ++row) table.groups[0].hashes[row] = row % 4;
  std::vector<std::size_t> rows(table.rows);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  const std::vector<unsigned> folds = assign_folds(table, rows, "artist", 4, 1);
  EXPECT_EQ(std::set(folds.begin(), folds.end()).size(), 4u);
  EXPECT_EQ(error_of([&] { assign_folds(table, rows, "artist", 5, 1); }),
            "cross-validation with 5 folds needs as many groups by 'artist', but there are only 4");
  EXPECT_TRUE(contains(error_of([&] { assign_folds(table, {rows.data(), 3}, "", 5, 1); }), "different rows"));
  EXPECT_TRUE(contains(error_of([&] { assign_folds(table, rows, "artist", 1, 1); }), "at least 2 folds"));
}

// --- Synthetic hits ----------------------------------------------------------------------------------

TableSpec hits_spec(const fs::path& folder) {
  TableSpec spec;
  spec.path = folder;
  spec.files = "*dataset-of-*.csv";
  for (const char* name : {"danceability", "energy", "key", "loudness", "mode", "speechiness", "acousticness",
                           "instrumentalness", "liveness", "valence", "tempo", "duration_ms",
                           "time_signature", "chorus_hit", "sections"})
    spec.columns.push_back({name});
  spec.extra = {"decade"};
  spec.target = "target";
  spec.groups = {"uri", "artist"};
  return spec;
}

TEST(SynthHits, MakesAWholeTableThatSaysThatItIsSynthetic) {
  const Folder folder;
  synth_hits(6001, 1, folder / "new/hits");
  const Table table = read_table(hits_spec(folder / "new/hits"));
  EXPECT_EQ(table.rows, 6001u);
  EXPECT_EQ(table.files.size(), 6u);
  std::map<float, std::pair<int, int>> hits;  // by decade: hits, rows
  for (std::size_t row = 0; row < table.rows; ++row) {
    auto& [hit, all] = hits[table.extra[0].values[row]];
    hit += table.target[row] == 1;
    ++all;
  }
  ASSERT_EQ(hits.size(), 6u);
  for (const auto& [decade, counts] : hits) EXPECT_EQ(counts.first, counts.second / 2) << decade;
  const auto unit = {"danceability",     "energy",   "speechiness", "acousticness",
                     "instrumentalness", "liveness", "valence"};
  for (const char* name : unit) {
    const auto [low, high] =
        std::minmax_element(table.find(name)->values.begin(), table.find(name)->values.end());
    EXPECT_GE(*low, 0) << name;
    EXPECT_LE(*high, 1) << name;
    EXPECT_GT(*high - *low, .5) << name;
  }
  std::vector<std::size_t> rows(table.rows);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  EXPECT_TRUE(require_usable(table, rows).empty());
  const std::size_t uris = values_of(table.groups[0].hashes, rows).size();
  EXPECT_LT(uris, table.rows - 30) << "some URIs repeat";
  EXPECT_GT(uris, table.rows - 150);
  EXPECT_LT(values_of(table.groups[1].hashes, rows).size(), table.rows / 2) << "artists have several tracks";
  for (const Record& record : read_all(table.files[0])) {
    if (record[0] == "track") continue;
    ASSERT_TRUE(record[0].starts_with("Synthetic Track ")) << record[0];
    ASSERT_TRUE(record[1].starts_with("Synthetic Artist ")) << record[1];
    ASSERT_TRUE(record[2].starts_with("tonearm:synthetic:")) << record[2];
  }
}

TEST(SynthHits, SameSeedSameBytesOtherSeedOthers) {
  const Folder folder;
  synth_hits(120, 1, folder / "a");
  synth_hits(120, 1, folder / "b");
  synth_hits(120, 2, folder / "c");
  for (const auto& entry : fs::directory_iterator(folder / "a")) {
    const std::string name = entry.path().filename().string();
    EXPECT_EQ(read_file(entry.path()), read_file(folder / ("b/" + name)));
    EXPECT_NE(read_file(entry.path()), read_file(folder / ("c/" + name)));
  }
}

TEST(SynthHits, CompressedFilesGiveTheSameSplit) {
  const Folder folder;
  synth_hits(1200, 1, folder / "plain");
  fs::create_directory(folder / "packed");
  for (const auto& entry : fs::directory_iterator(folder / "plain")) {
    const std::vector<unsigned char> bytes = read_file(entry.path());
    save(folder / ("packed/" + entry.path().filename().string() + ".gz"), gzip({bytes.begin(), bytes.end()}));
  }
  SplitSpec split;
  split.group = "uri";
  EXPECT_EQ(make_split(read_table(hits_spec(folder / "plain")), split, 1).digest,
            make_split(read_table(hits_spec(folder / "packed")), split, 1).digest);
}

TEST(SynthHits, BadRequestsAreRefused) {
  const Folder folder;
  EXPECT_TRUE(contains(error_of([&] { synth_hits(11, 1, folder.path()); }), "at least 12"));
  save(folder / "file", "text");
  EXPECT_TRUE(
      contains(error_of([&] { synth_hits(12, 1, folder / "file/hits"); }), "cannot create the folder"));
}

}  // namespace
}  // namespace tonearm
