//! Plain tables for the terminal.

/// A table with a ruled header. Columns of numbers are aligned to the right; there is no newline at the end.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let columns: Vec<Column> = (0..header.len()).map(|at| Column::of(at, &header, rows)).collect();
    let rule = columns.iter().map(|column| "─".repeat(column.width)).collect();
    let lines = [&header, &rule].into_iter().chain(rows);
    lines.map(|row| line(row, &columns)).collect::<Vec<_>>().join("\n")
}

struct Column {
    width: usize,
    is_number: bool,
}

impl Column {
    fn of(at: usize, header: &[String], rows: &[Vec<String>]) -> Self {
        let cells = || rows.iter().filter_map(|row| row.get(at));
        let width = cells().chain(header.get(at)).map(|cell| cell.chars().count()).max();
        let is_number = cells().all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()));
        Self { width: width.unwrap_or(0), is_number }
    }
}

fn line(row: &[String], columns: &[Column]) -> String {
    let cell = |(text, &Column { width, is_number }): (&String, &Column)| match is_number {
        true => format!("{text:>width$}"),
        false => format!("{text:<width$}"),
    };
    let cells: Vec<_> = row.iter().zip(columns).map(cell).collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_in_columns_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["format".to_owned(), "0.4 s".to_owned()],
            vec!["x".to_owned(), "12.0 s".to_owned()],
        ];
        let expected = "step      time\n──────  ──────\nformat   0.4 s\nx       12.0 s";
        assert_eq!(render(&["step", "time"], &rows), expected);
    }
}
