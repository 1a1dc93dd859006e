//! Tables for people.

/// Lines of cells, each column as wide as its widest cell plus `gap`, but at least `min_width`; the last
/// column is not padded.
pub fn table(rows: &[Vec<String>], gap: usize, min_width: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| width_of(cell)).max().unwrap_or_default();
        min_width.max(widest + gap)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let Some((last, cells)) = row.split_last() else { continue };
        for (cell, width) in cells.iter().zip(&widths) {
            text += cell;
            text += &" ".repeat(width.saturating_sub(width_of(cell)));
        }
        text += last;
        text.push('\n');
    }
    text
}

/// The number of terminal columns that it needs; it contains no control characters.
fn width_of(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(width_of_char).sum()
}

/// Combining characters take no column, wide ones in terms of Unicode two.
fn width_of_char(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' => 0,
        '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' => 2,
        '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' => 2,
        '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}' => 2,
        '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_where_characters_are_wide_or_combine() {
        let rows = [["\u{65e5}\u{672c}", "1"], ["e\u{301}", "2"], ["abcd", "3"]];
        let rows = rows.map(|row| row.map(String::from).to_vec());
        let expected = "\u{65e5}\u{672c}  1\ne\u{301}     2\nabcd  3\n";
        assert_eq!(table(&rows, 2, 0), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "SIZE", "NAME"], ["caf\u{e9}", "1", "a b"]]
            .map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&rows, 2, 0), "ID    SIZE  NAME\ncaf\u{e9}  1     a b\n");
        assert_eq!(table(&rows, 1, 6), "ID    SIZE  NAME\ncaf\u{e9}  1     a b\n");
    }
}
