//! Tables for people.

/// Lines of cells, each column as wide as its widest cell and `gap` more, but at least `min_width`; the last one as it
/// is.
pub fn table(rows: &[Vec<String>], gap: usize, min_width: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
        min_width.max(widest + gap)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let Some((last, cells)) = row.split_last() else { continue };
        for (cell, width) in cells.iter().zip(&widths) {
            text += &format!("{cell:width$}");
        }
        text += last;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "SIZE", "NAME"], ["caf\u{e9}", "1", "a b"]]
            .map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&rows, 2, 0), "ID    SIZE  NAME\ncaf\u{e9}  1     a b\n");
        assert_eq!(table(&rows, 1, 6), "ID    SIZE  NAME\ncaf\u{e9}  1     a b\n");
    }
}
