//! The fuzz target of `customers import`.

use super::table::{COLUMNS, Problem, Row, Table};
use crate::delivery::email::address::Contact;
use crate::text;
use vetwatch_core::csv;

/// A CSV file: rows that are accepted are written and read again, and so are their contacts' addresses.
pub(crate) fn customers_csv(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count() as u64;
    let mut last = 0;
    let mut rows = Vec::new();
    let mut read = |row: Result<Option<Row>, Problem>| {
        let line = match row {
            Ok(None) => return false,
            Ok(Some(row)) => {
                let line = row.line;
                rows.push(row);
                line
            }
            Err(Problem::Line { line, why }) => {
                assert!(!why.is_empty());
                line
            }
            Err(Problem::Io(error)) => panic!("{error}"),
        };
        assert!((last.max(1)..=lines).contains(&line), "line {line} after {last}, of {lines}");
        last = line;
        true
    };
    match Table::open(input) {
        Ok(mut table) => while read(table.next()) {},
        Err(problem) => _ = read(Err(problem)),
    }
    for row in rows {
        let customer = &row.customer;
        if let Some(contact) = &customer.contact {
            let addresses = Contact::parse(contact);
            let again = Contact::parse(&addresses.recipient().unwrap_or_default());
            assert_eq!(again, Contact { addresses: addresses.addresses, ..Contact::default() }, "of {contact:?}");
        }
        let tags = customer.tags.as_ref().map(|tags| tags.join(";"));
        let cells = [
            Some(&customer.id),
            customer.name.as_ref(),
            customer.domain.as_ref(),
            tags.as_ref(),
            customer.contact.as_ref(),
        ];
        let cells = cells.map(|cell| cell.map_or("", String::as_str));
        // What would act on a terminal or a spreadsheet is written otherwise.
        if cells
            .iter()
            .any(|cell| text::terminal(cell) != *cell || csv::record([*cell]).trim_start_matches('"').starts_with('\''))
        {
            continue;
        }
        let file = csv::record(COLUMNS) + &csv::record(cells);
        let mut table = Table::open(file.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {file}"));
        let again = table.next().unwrap_or_else(|why| panic!("{why:?}: {file}"));
        assert_eq!(again, Some(Row { line: 2, ..row }), "{file}");
    }
}
