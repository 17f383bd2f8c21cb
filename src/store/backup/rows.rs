//! Rows of the record store as bytes: a byte for each column that says what it is, and its content; of a text and a blob its
//! length first, as a 32-bit word.

use rusqlite::{Connection, types::ValueRef};

/// How the rows of a table are read and put.
pub(super) struct Columns {
    /// Every column, quoted. The number of a row is one where it isn't another's content.
    pub(super) names: Vec<String>,
    /// Those that the rows are in order of.
    order: Vec<String>,
}

impl Columns {
    /// The columns of a table.
    pub(super) fn of(sql: &Connection, table: &str) -> rusqlite::Result<Self> {
        let (mut names, mut order, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut columns = sql.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
        let mut rows = columns.query([table])?;
        while let Some(row) = rows.next()? {
            let name = quoted(&row.get::<_, String>(0)?);
            let place: usize = row.get(2)?;
            if place > 0 {
                order.push((place, name.clone()));
                types.push(row.get::<_, String>(1)?);
            }
            names.push(name);
        }
        order.sort_unstable();
        let mut order: Vec<String> = order.into_iter().map(|(_, name)| name).collect();
        let query = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
        let is_numbered = !sql.query_row(query, [table], |row| row.get::<_, bool>(0))?;
        if is_numbered && types != ["INTEGER"] {
            names.insert(0, "rowid".to_owned());
            order = vec!["rowid".to_owned()];
        }
        Ok(Self { names, order })
    }

    /// The statement that reads all of a table's rows.
    pub(super) fn select(&self, table: &str) -> String {
        format!("SELECT {} FROM {} ORDER BY {}", self.names.join(", "), quoted(table), self.order.join(", "))
    }

    /// The statement that puts one.
    pub(super) fn insert(&self, table: &str) -> String {
        let places = vec!["?"; self.names.len()].join(", ");
        format!("INSERT INTO {} ({}) VALUES ({places})", quoted(table), self.names.join(", "))
    }
}

/// Appends a column's content.
pub(super) fn write(value: ValueRef<'_>, bytes: &mut Vec<u8>) {
    let mut text = |kind: u8, text: &[u8]| {
        bytes.push(kind);
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend_from_slice(text);
    };
    match value {
        ValueRef::Text(content) => text(TEXT, content),
        ValueRef::Blob(content) => text(BLOB, content),
        ValueRef::Null => bytes.push(NULL),
        ValueRef::Integer(number) => {
            bytes.push(INTEGER);
            bytes.extend(number.to_be_bytes());
        }
        ValueRef::Real(number) => {
            bytes.push(REAL);
            bytes.extend(number.to_be_bytes());
        }
    }
}

/// Takes the next column's content; none if the row is not whole.
pub(super) fn next<'a>(rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    let (kind, after) = rest.split_first()?;
    let (value, after) = match *kind {
        NULL => (ValueRef::Null, after),
        INTEGER | REAL => {
            let (number, after) = after.split_first_chunk()?;
            let integer = ValueRef::Integer(i64::from_be_bytes(*number));
            (if *kind == REAL { ValueRef::Real(f64::from_be_bytes(*number)) } else { integer }, after)
        }
        TEXT | BLOB => {
            let (length, after) = after.split_first_chunk()?;
            let (content, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            (if *kind == TEXT { ValueRef::Text(content) } else { ValueRef::Blob(content) }, after)
        }
        _ => return None,
    };
    *rest = after;
    Some(value)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_kind_of_table_come_back() {
        let tables = "CREATE TABLE numbered (n INTEGER PRIMARY KEY AUTOINCREMENT, \"by\" TEXT);
                      CREATE TABLE keyed (a TEXT, b BLOB, c REAL, PRIMARY KEY (b, a)) WITHOUT ROWID;
                      CREATE TABLE plain (a TEXT PRIMARY KEY, b INTEGER);";
        let (from, to) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        from.execute_batch(tables).unwrap();
        to.execute_batch(tables).unwrap();
        from.execute_batch(
            "INSERT INTO numbered VALUES (7, 'x'), (3, NULL); INSERT INTO keyed VALUES ('b', x'01', 0.5), ('a', x'02', -1.0);
             INSERT INTO plain (rowid, a, b) VALUES (9, 'a', 1), (2, 'z', -1)",
        )
        .unwrap();
        for (table, order) in [("numbered", "\"n\""), ("keyed", "\"b\", \"a\""), ("plain", "rowid")] {
            let columns = Columns::of(&from, table).unwrap();
            assert_eq!(columns.order.join(", "), order);
            let read = |sql: &Connection| {
                let mut rows = sql.prepare(&columns.select(table)).unwrap();
                let row = |row: &rusqlite::Row<'_>| {
                    let mut bytes = Vec::new();
                    for place in 0..columns.names.len() {
                        write(row.get_ref(place)?, &mut bytes);
                    }
                    Ok(bytes)
                };
                rows.query_map([], row).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
            };
            let rows = read(&from);
            assert_eq!(rows.len(), 2, "{table}");
            for row in &rows {
                let (mut rest, mut values) = (&row[..], Vec::new());
                while let Some(value) = next(&mut rest) {
                    values.push(rusqlite::types::Value::try_from(value).unwrap());
                }
                assert!(rest.is_empty());
                to.execute(&columns.insert(table), rusqlite::params_from_iter(values)).unwrap();
            }
            assert_eq!(read(&to), rows);
        }
    }
}
