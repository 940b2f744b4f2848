//! [`RowAt`]: where a row was when it was read.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A row's block and its item there: `tid`, of which the driver knows no form. A row that is written again stands elsewhere,
/// and what stands there then is another one: it says where to look, never which row it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowAt {
    block: u32,
    item: u16,
}

impl FromSql<'_> for RowAt {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (block, item) = raw.split_at_checked(size_of::<u32>()).ok_or("no tid")?;
        Ok(Self { block: u32::from_be_bytes(block.try_into()?), item: u16::from_be_bytes(item.try_into()?) })
    }

    accepts!(TID);
}

impl ToSql for RowAt {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u32(self.block);
        out.put_u16(self.item);
        Ok(IsNull::No)
    }

    accepts!(TID);
    to_sql_checked!();
}
