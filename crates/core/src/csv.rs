//! CSV for spreadsheets: RFC 4180, without cells that a spreadsheet takes for a formula.

use crate::text;

/// Formats a record with its line end. Terminal control characters are removed, so a record is one line.
#[must_use]
pub fn record<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<_> = cells.into_iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

/// A customer may be named `=cmd|' /C calc'!A1`: an apostrophe in front keeps it text.
fn cell(value: &str) -> String {
    let value = text::terminal(value);
    let formula = value.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '|', '%']);
    let value = if formula { format!("'{value}") } else { value.into_owned() };
    if value.contains([',', '"', '\n', '\r']) || value.starts_with(' ') || value.ends_with(' ') {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_are_quoted_as_rfc_4180_says() {
        assert_eq!(record(["a", "", "b, \"c\"", " d"]), "a,,\"b, \"\"c\"\"\",\" d\"\r\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for evil in ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\n=1", "＝1", "|calc"] {
            let cell = record([evil]);
            assert!(cell.trim_start_matches('"').starts_with('\''), "{evil:?} became {cell:?}");
        }
        assert_eq!(
            record(["2026-11-20T14:03:00.000Z", "Contoso - School", "7"]),
            "2026-11-20T14:03:00.000Z,Contoso - School,7\r\n"
        );
    }

    #[test]
    fn a_line_feed_in_a_reason_does_not_make_two_records() {
        assert_eq!(record(["one\r\ntwo", "x\u{1b}"]), "one  two,x\u{fffd}\r\n");
    }
}
