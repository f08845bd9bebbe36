/* What tonearm-profile feeds a model: a listening log, or a table's rows. */
#ifndef TONEARM_PROFILE_WORKLOAD_H
#define TONEARM_PROFILE_WORKLOAD_H

#include "profiling.h"

/* Memory is taken once, and kept to the program's end. What is wrong with a file ends the program with a sentence. */

/* The sessions of a log (log_*.csv of the MSSD), as far as there are `most` tracks; what its rows do not say of them is
 * looked up in the tables (tf_*.csv), `tables` of them. */
void workload_of_log(const char *log, char **tables, int table_count, size_t most, struct workload *workload);

/* The rows of a CSV file, as far as there are `most`, its columns found by their names. */
void workload_of_rows(const tonearm_model *model, const char *path, size_t most, struct workload *workload);

#endif
