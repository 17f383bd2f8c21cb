//! How the crate's own types lie in SQLite's columns. Its integers are signed: numbers and times stay below 2^53.

use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::base::{
    clock::Timestamp,
    ids::{DeviceNumber, MediaNumber, Position, PusherNumber, RoomNumber, UserNumber},
    secret::TokenHash,
};

macro_rules! integer_columns {
    ($($name:ident($inner:ty),)*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.0 as i64))
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let integer = value.as_i64()?;
                <$inner>::try_from(integer).map(Self).map_err(|_| FromSqlError::OutOfRange(integer))
            }
        }
    )*};
}

integer_columns! {
    DeviceNumber(u64),
    MediaNumber(u64),
    Position(u64),
    PusherNumber(u64),
    RoomNumber(u32),
    Timestamp(u64),
    UserNumber(u32),
}

impl ToSql for TokenHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}
