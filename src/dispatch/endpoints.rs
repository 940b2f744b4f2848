//! The tenants' endpoints as they were last seen, so that each is loaded and opened when it changes and not for every
//! delivery.

use std::{collections::HashMap, sync::Arc};

use crate::{
    delivery::request::Endpoint,
    pipeline::{Pipeline, Unusable},
    store::{
        Client, Error, Statement,
        endpoints::{self, SealedEndpoint},
    },
};

use super::claim::Delivery;

/// Beyond so many they are forgotten, then loaded and opened anew: a template may have 64 KiB.
const MOST: usize = 256;

type Opening = Result<Arc<Endpoint>, Unusable>;

struct Known {
    version: String,
    sealed: Arc<SealedEndpoint>,
    opened: Option<Opening>,
}

/// Endpoints by tenant.
#[derive(Default)]
pub struct Endpoints {
    known: HashMap<String, Known>,
    /// What the opened ones were opened by.
    pipeline: Option<Arc<Pipeline>>,
}

impl Endpoints {
    /// The endpoints of these tenants and versions: those that are new or have changed are loaded.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub(super) async fn load(
        &mut self,
        client: &Client,
        statement: &Statement,
        wanted: &HashMap<String, String>,
    ) -> Result<HashMap<String, Arc<SealedEndpoint>>, Error> {
        if self.known.len() > MOST {
            self.known.clear();
        }
        let is_known =
            |tenant: &String, version: &String| self.known.get(tenant).is_some_and(|known| known.version == *version);
        let changed: Vec<&str> =
            wanted.iter().filter(|(tenant, version)| !is_known(tenant, version)).map(|(t, _)| t.as_str()).collect();
        // What has been removed meanwhile comes back with nothing.
        for tenant in &changed {
            self.known.remove(*tenant);
        }
        for loaded in endpoints::load(client, statement, &changed).await? {
            let known = Known { version: loaded.version, sealed: Arc::new(loaded.sealed), opened: None };
            self.known.insert(loaded.tenant_id, known);
        }
        let sealed = |tenant: &String| Some((tenant.clone(), Arc::clone(&self.known.get(tenant)?.sealed)));
        Ok(wanted.keys().filter_map(sealed).collect())
    }

    /// The delivery's endpoint, or why it cannot be used. After a reload everything is opened anew: by other keys,
    /// under another policy.
    pub(super) fn open(&mut self, pipeline: &Arc<Pipeline>, delivery: &Delivery) -> Opening {
        if !self.pipeline.as_ref().is_some_and(|known| Arc::ptr_eq(known, pipeline)) {
            self.known.values_mut().for_each(|known| known.opened = None);
            self.pipeline = Some(Arc::clone(pipeline));
        }
        let tenant_id = &delivery.place.tenant_id;
        let open = || pipeline.open(tenant_id, &delivery.endpoint).map(Arc::new);
        match self.known.get_mut(tenant_id) {
            Some(known) => known.opened.get_or_insert_with(open).clone(),
            None => open(),
        }
    }
}
