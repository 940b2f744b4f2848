//! A tenant's latest leads, to be shown: one that cannot be read takes none of the others away.

use super::{
    super::{mapping::MappedSql, session::Session},
    Lead, Leads, LoadError, LoadStatements, Loaded, classify, concerns_all, load,
};

/// The latest of a tenant's leads for which `condition` holds.
fn latest_sql(mapped: &MappedSql, condition: &str) -> String {
    let MappedSql { id, id_key, table, tenant_id, captured_at, .. } = mapped;
    let latest = captured_at.as_ref().map_or(id_key, |captured| &captured.key);
    format!(
        "-- leads::latest\nSELECT {id} FROM {table} lead WHERE ({tenant_id}) COLLATE \"C\" = $1 AND {condition} \
         ORDER BY {latest} DESC NULLS LAST LIMIT $2"
    )
}

/// The tenant's latest leads with a contact, the latest first: by their captured time, or else by id; each its id, and its
/// values, or why they cannot be read.
///
/// # Errors
/// [`LoadError`], when every lead is concerned, or which are the latest cannot be told.
pub async fn latest(
    session: &mut Session,
    mapped: &MappedSql,
    tenant: &str,
    n: i64,
) -> Result<Vec<(String, Result<Lead, String>)>, LoadError> {
    let (ids, leads) = match read(session, mapped, (tenant, n), &mapped.has_contact).await {
        // Of one of them it cannot be told whether it has a contact. Of the latest that is told one by one.
        Err(LoadError::Leads(error)) if !concerns_all(&error) => read(session, mapped, (tenant, n), "true").await?,
        read => read?,
    };
    let one = |id: String| match leads.of(tenant, &id) {
        Loaded::Found(lead) if has_contact(lead) => Some((id, Ok(lead.clone()))),
        Loaded::Broken(why) => Some((id, Err(why.to_owned()))),
        Loaded::Found(_) | Loaded::Gone => None,
    };
    Ok(ids.into_iter().filter_map(one).collect())
}

/// Each statement in ten seconds at most, because a change of the table waits for it, and behind that every writer.
async fn read(
    session: &mut Session,
    mapped: &MappedSql,
    (tenant, n): (&str, i64),
    condition: &str,
) -> Result<(Vec<String>, Leads), LoadError> {
    let statements = LoadStatements::prepare(session, mapped).await.map_err(classify)?;
    let client = session.shared();
    client.begin("BEGIN READ ONLY").await.map_err(LoadError::Connection)?;
    let read = async {
        client.batch_execute("SET LOCAL statement_timeout = '10s'").await.map_err(LoadError::Connection)?;
        let rows = client.query(&latest_sql(mapped, condition), &[&tenant, &n]).await.map_err(classify)?;
        let ids: Vec<String> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(LoadError::Leads)?;
        let wanted: Vec<_> = ids.iter().map(|id| (id.as_str(), Some(tenant))).collect();
        let leads = load(client, &statements, &wanted).await?;
        Ok((ids, leads))
    };
    let read = read.await;
    // Of one that has failed it is a rollback.
    client.commit().await.map_err(LoadError::Connection)?;
    read
}

fn has_contact(lead: &Lead) -> bool {
    [&lead.email, &lead.phone].into_iter().flatten().any(|contact| !contact.trim().is_empty())
}
