//! Rows as one parameter: an array of a table's own row type. To unnest it costs the server a third of what an array for
//! each column costs: each of those is a function of its own, which writes its values into a store.
//!
//! Values are written by their columns' names, in the order that the table has at the server; what is not named is null.
//! Where a migration adds a column while a session lasts, the server refuses the next rows by their number; the session is
//! given up as after any error, and the next one knows the column. A statement that inserts rows lists its columns all the
//! same: what it does not know takes its default.

use std::{error::Error, fmt};

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{Field, IsNull, Kind, Oid, ToSql, Type, to_sql_checked};

use super::client::Client;

/// A row, as far as we write it.
pub(super) trait Row {
    /// The names of its columns.
    const COLUMNS: &'static [&'static str];

    /// Their values.
    fn values(&self) -> Vec<&dyn ToSql>;
}

/// A struct that is a [`Row`]: each field is a column.
macro_rules! row {
    ($(#[$about:meta])* struct $name:ident<'a> { $($column:ident: $type:ty,)* }) => {
        $(#[$about])*
        struct $name<'a> {
            $($column: $type,)*
        }

        impl $crate::store::rows::Row for $name<'_> {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),*];

            fn values(&self) -> Vec<&dyn tokio_postgres::types::ToSql> {
                vec![$(&self.$column),*]
            }
        }
    };
}
pub(super) use row;

/// The parameter. What it holds is personal: `Debug` shows nothing of it.
pub(super) struct Rows<R>(pub(super) Vec<R>);

impl<R> fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.0.len())
    }
}

/// The type of the parameter that holds rows of our `table`, as the driver finds it out by itself where the session is direct.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub(super) async fn type_of(client: &Client, table: &str) -> Result<Type, tokio_postgres::Error> {
    let sql = format!(
        "-- rows::type_of
SELECT t.oid, t.typarray, a.attname::text, a.atttypid
FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
WHERE t.oid = 'lead_webhook.{table}'::regtype
ORDER BY a.attnum"
    );
    let (schema, mut oids, mut fields) = ("lead_webhook", (0, 0), Vec::new());
    for row in client.query(&sql, &[]).await? {
        oids = (row.try_get(0)?, row.try_get(1)?);
        let of: Oid = row.try_get(3)?;
        let of = Type::from_oid(of).unwrap_or_else(|| Type::new(String::new(), of, Kind::Simple, String::new()));
        fields.push(Field::new(row.try_get(2)?, of));
    }
    let row_type = Type::new(table.to_owned(), oids.0, Kind::Composite(fields), schema.to_owned());
    Ok(Type::new(format!("_{table}"), oids.1, Kind::Array(row_type), schema.to_owned()))
}

/// Whether it is null, or what the driver has against a value.
type Written = Result<IsNull, Box<dyn Error + Sync + Send>>;

/// The row type that `of` is an array of, and its columns.
fn row_type(of: &Type) -> Option<(&Type, &[Field])> {
    let Kind::Array(row_type) = of.kind() else { return None };
    let Kind::Composite(fields) = row_type.kind() else { return None };
    Some((row_type, fields))
}

impl<R: Row> ToSql for Rows<R> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Written {
        let Some((row_type, fields)) = row_type(of) else { return Err("no array of rows".into()) };
        if let Some(missing) = R::COLUMNS.iter().find(|name| fields.iter().all(|field| field.name() != **name)) {
            return Err(format!("{row_type} has no column {missing}").into());
        }
        let place = |name| R::COLUMNS.iter().position(|own| *own == name);
        let fields: Vec<_> = fields.iter().map(|field| (field.type_(), place(field.name()))).collect();
        // Dimensions, whether elements are null, their type; of the one dimension its length and where it begins.
        out.put_i32(1);
        out.put_i32(0);
        out.put_u32(row_type.oid());
        out.put_i32(i32::try_from(self.0.len())?);
        out.put_i32(1);
        for row in &self.0 {
            let values = row.values();
            with_length(out, |out| {
                out.put_i32(i32::try_from(fields.len())?);
                for (field, place) in &fields {
                    out.put_u32(field.oid());
                    with_length(out, |out| match place.and_then(|place| values.get(place)) {
                        Some(value) => value.to_sql_checked(field, out),
                        None => Ok(IsNull::Yes),
                    })?;
                }
                Ok(IsNull::No)
            })?;
        }
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        row_type(of).is_some()
    }

    to_sql_checked!();
}

/// What `write` writes, behind its length in bytes; -1 where it is null.
fn with_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Written) -> Written {
    let begin = out.len();
    out.put_i32(-1);
    if let IsNull::No = write(out)? {
        let length = i32::try_from(out.len() - begin - size_of::<i32>())?;
        if let Some(mut place) = out.get_mut(begin..) {
            place.put_i32(length);
        }
    }
    Ok(IsNull::No)
}
