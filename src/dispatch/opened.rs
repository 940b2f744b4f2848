//! Endpoints that were opened, so that it is done once for each that changes and not once a delivery.

use std::{collections::HashMap, sync::Arc};

use crate::{
    delivery::request::Endpoint,
    pipeline::{Pipeline, Unusable},
    store::endpoints::SealedEndpoint,
};

use super::claim::Delivery;

/// Beyond so many they are forgotten and opened anew: a template may have 64 KiB.
const ENDPOINTS: usize = 256;

type Opening = Result<Arc<Endpoint>, Unusable>;

/// Opened endpoints by tenant, each beside the sealed one that it was opened from.
#[derive(Default)]
pub(super) struct Opened {
    by_tenant: HashMap<String, (Arc<SealedEndpoint>, Opening)>,
    pipeline: Option<Arc<Pipeline>>,
}

impl Opened {
    /// The delivery's endpoint, or why it cannot be used. After a reload everything is opened anew: by other keys,
    /// under another policy.
    pub(super) fn open(&mut self, pipeline: &Arc<Pipeline>, delivery: &Delivery) -> Opening {
        if !self.pipeline.as_ref().is_some_and(|known| Arc::ptr_eq(known, pipeline)) || self.by_tenant.len() > ENDPOINTS
        {
            self.by_tenant.clear();
            self.pipeline = Some(Arc::clone(pipeline));
        }
        let (tenant_id, sealed) = (&delivery.place.tenant_id, &delivery.endpoint);
        match self.by_tenant.get(tenant_id) {
            Some((known, opening)) if Arc::ptr_eq(known, sealed) => opening.clone(),
            _ => {
                let opening = pipeline.open(tenant_id, sealed).map(Arc::new);
                self.by_tenant.insert(tenant_id.clone(), (Arc::clone(sealed), opening.clone()));
                opening
            }
        }
    }
}
