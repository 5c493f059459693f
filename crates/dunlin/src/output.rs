//! The only place that prints. Results go to standard output, messages about them to standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Prints results and messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: Format,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One line of a result.
    pub(crate) fn line(self, text: impl Display) {
        let line = printable(&text.to_string()) + "\n";
        self.raw(line.as_bytes());
    }

    /// A result as it is, such as a script.
    pub(crate) fn raw(self, text: &[u8]) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text).and_then(|()| stdout.flush());
        if written.is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
            // The reader has enough, as in `dunlin services | head`.
            std::process::exit(0);
        }
    }

    /// A message to the person at the terminal, beside the result.
    pub(crate) fn note(self, text: impl Display) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
    }

    /// A result as indented JSON.
    pub(crate) fn json<T: Serialize>(self, value: &T) {
        self.line(serde_json::to_string_pretty(value).expect("wire types are plain data"));
    }

    /// A result as JSON on one line.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) {
        self.line(serde_json::to_string(value).expect("wire types are plain data"));
    }

    /// A list: as JSON, else as a table, or a message if it is empty.
    pub(crate) fn list<T: Serialize>(self, value: &T, table: &Table, empty: &str) {
        if self.is_json() {
            self.json(value);
        } else if table.rows.is_empty() {
            self.note(empty);
        } else {
            self.line(table.render());
        }
    }
}

/// Rows under a header, without lines around them.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: AsRef<str>>(header: &[S]) -> Self {
        let header = header.iter().map(|word| word.as_ref().to_owned()).collect();
        Self { header, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let one_line = |cell: String| cell.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    pub(crate) fn render(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// Check outputs and reasons come from outside: what could steer a terminal is shown, not sent.
fn printable(text: &str) -> String {
    let visible =
        |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns_and_no_lines() {
        let mut table = Table::new(&["SERVICE", "HEALTHY"]);
        table.row(["web".to_owned(), "2/3".to_owned()]);
        table.row(["http.api.prod.shop".to_owned(), "10/10".to_owned()]);
        assert_eq!(
            table.render(),
            "SERVICE             HEALTHY\nweb                 2/3\nhttp.api.prod.shop  10/10"
        );
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut table = Table::new(&["OUTPUT"]);
        table.row(["\x1b[2Jgone\nnext".to_owned()]);
        assert_eq!(table.render(), "OUTPUT\n\u{fffd}[2Jgone next");
    }
}
