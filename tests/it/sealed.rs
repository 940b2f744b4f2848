//! Sealed values wherever they stand: by the catalog and not by a list, so that no column is left out.

use lead_webhook::keyring::{Column, KeyId, Place};

use crate::harness::Setup;

/// A sealed value of our schema.
pub(crate) struct Sealed {
    /// The tenant, or the installation's id.
    pub(crate) tenant: String,
    /// Where it stands.
    pub(crate) column: Column,
    /// As it stands there.
    pub(crate) value: Vec<u8>,
}

impl Sealed {
    /// Every one. What the program knows as sealed columns must be all that there are, and each must hold something.
    pub(crate) async fn all(setup: &Setup) -> Vec<Self> {
        let admin = setup.db.admin().await;
        // All that could hold bytes but the uniqueness keys, which are HMACs.
        let columns = "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                       WHERE c.relnamespace = 'lead_webhook'::regnamespace AND c.relkind IN ('r', 'p')
                         AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'bytea'::regtype
                         AND (c.relname, a.attname) <> ('uniqueness', 'key')";
        let mut names: Vec<String> = admin.query(columns, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        names.sort_unstable();
        let mut known = Column::ALL.map(Column::name);
        known.sort_unstable();
        assert_eq!(names, known, "the catalog's columns, and those of keyring::Column");
        let mut all = Vec::new();
        for column in Column::ALL {
            let (table, name) = column.name().split_once('.').unwrap();
            let values = format!(
                "SELECT coalesce(to_jsonb(t) ->> 'tenant_id', to_jsonb(t) ->> 'installation_id'), {name}
                 FROM lead_webhook.{table} t WHERE {name} IS NOT NULL ORDER BY 1"
            );
            let rows = admin.query(&values, &[]).await.unwrap();
            assert!(!rows.is_empty(), "{}: no test without a value there", column.name());
            all.extend(rows.iter().map(|row| Self { tenant: row.get(0), column, value: row.get(1) }));
        }
        all
    }

    /// Where it opens.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { tenant: &self.tenant, column: self.column }
    }

    /// The id of the key that sealed it.
    pub(crate) fn key_id(&self) -> String {
        KeyId::of(&self.value).unwrap().to_string()
    }
}

/// Puts another value into this place.
pub(crate) async fn put(setup: &Setup, place: &Place<'_>, value: &[u8]) {
    let (table, name) = place.column.name().split_once('.').unwrap();
    let update = format!(
        "UPDATE lead_webhook.{table} t SET {name} = $1
         WHERE coalesce(to_jsonb(t) ->> 'tenant_id', to_jsonb(t) ->> 'installation_id') = $2"
    );
    assert_eq!(setup.db.admin().await.execute(&update, &[&value, &place.tenant]).await.unwrap(), 1);
}
