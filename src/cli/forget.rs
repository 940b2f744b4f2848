//! `lead-webhook forget`: what is kept of a lead to know it again goes, as a request for erasure wants it.

use super::{Failure, context::Context, database::failed, fields::quoted, output};
use crate::store::uniqueness;

/// Deletes the lead's keys. Its log rows hold ids and times, and go with the retention.
pub(super) async fn forget(context: &Context, lead: &str, tenant: Option<&str>) -> Result<(), Failure> {
    let mut session = context.session().await?;
    let (name, failed) = (quoted(lead), failed(context));
    let known = uniqueness::tenants_of(&mut session, lead).await.map_err(&failed)?;
    if tenant.is_none() && known.len() > 1 {
        let tenants: Vec<_> = known.iter().map(|tenant| quoted(tenant)).collect();
        return Err(Failure::Arguments(format!(
            "lead {name} is one of several tenants' ({}), and nothing is forgotten: say whose with --tenant",
            tenants.join(", ")
        )));
    }
    match uniqueness::forget(&mut session, lead, tenant).await.map_err(&failed)? {
        0 => Err(Failure::Operation(format!("no key names lead {name}: there is nothing to forget"))),
        keys => {
            let keys = if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
            output::message(&format!(
                "{keys} of lead {name} deleted: it is not known any more. The same visitor and contact would be a new lead"
            ));
            Ok(())
        }
    }
}
