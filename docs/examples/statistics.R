# Figures of a published file in R, from an export: quietcount export figures
#
#     Rscript statistics.R figures desertion.png
#
# It needs base R alone. If the package duckdb is installed, it also asks the published file itself (data/statistics.duckdb
# beside the export, or a third argument), which knows the interval of a sum.

arguments <- commandArgs(trailingOnly = TRUE)
folder <- if (length(arguments) >= 1) arguments[1] else "figures"
picture <- if (length(arguments) >= 2) arguments[2] else "desertion.png"
file <- if (length(arguments) >= 3) arguments[3] else file.path(dirname(folder), "data", "statistics.duckdb")

# The file begins with a mark that says it is UTF-8. Text that a spreadsheet would run or turn into a date has an
# apostrophe before it.
table_of <- function(name) {
  path <- file.path(folder, "csv", paste0(name, ".csv"))
  rows <- read.csv(path, fileEncoding = "UTF-8-BOM", na.strings = "", stringsAsFactors = FALSE)
  texts <- vapply(rows, is.character, logical(1))
  rows[texts] <- lapply(rows[texts], function(text) sub("^'", "", text))
  for (day in intersect(c("period_start", "period_end"), names(rows))) rows[[day]] <- as.Date(rows[[day]])
  rows
}

requests <- table_of("requests_by_kind")
desertion <- requests[requests$help_kind == "DESERTION" & requests$period_start >= as.Date("2023-04-01"), ]
print(desertion[, c("period_start", "shown", "lower", "upper", "status")], row.names = FALSE)

# A quarter with its interval: margins has the totals of each symbol by every longer period. To add the ends of three
# months' intervals up would be too wide.
margins <- table_of("margins")
quarter <- margins[margins$statistic == "requests_by_kind" & margins$symbol == "DESERTION" &
  margins$period == "quarter" & margins$period_start == as.Date("2023-07-01"), ]
cat(sprintf("July to September 2023: %d (between %d and %d)\n", quarter$shown, quarter$lower, quarter$upper))

png(picture, width = 900, height = 450, res = 110)
top <- max(desertion$upper)
places <- barplot(desertion$shown, names.arg = format(desertion$period_start, "%Y-%m"), ylim = c(0, top * 1.05),
  col = ifelse(desertion$status == "provisional", "grey80", "steelblue"), border = NA, las = 2,
  main = "Requests for help to desert, a month, with 95 % intervals")
arrows(places, desertion$lower, places, desertion$upper, angle = 90, code = 3, length = 0.04)
invisible(dev.off())

about <- table_of("about")
cat(about$value[about$key == "citation"], "\n")

if (requireNamespace("duckdb", quietly = TRUE) && file.exists(file)) {
  db <- DBI::dbConnect(duckdb::duckdb(), file, read_only = TRUE)
  print(DBI::dbGetQuery(db, "SELECT shown, lower, upper
    FROM total('requests_by_kind', '2023-09-01', '2023-11-30', cells := 'help_kind=DESERTION')"))
  DBI::dbDisconnect(db, shutdown = TRUE)
}
