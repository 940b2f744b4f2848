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

/// All together weigh no more: beyond that half of them are forgotten, whichever, then loaded and opened anew.
const MOST: usize = 4 << 20;

/// About what an endpoint weighs beside its texts, in bytes.
const EACH: usize = 512;

type Opening = Result<Arc<Endpoint>, Unusable>;

struct Known {
    version: String,
    sealed: Arc<SealedEndpoint>,
    opened: Option<Opening>,
}

impl Known {
    /// In bytes, about: what is sealed is there opened as well, and so is the template.
    fn weight(&self) -> usize {
        let SealedEndpoint { url_sealed, secret_sealed, headers_sealed, template, .. } = &*self.sealed;
        let sealed = [url_sealed, secret_sealed, headers_sealed].into_iter().flatten().map(Vec::len).sum::<usize>();
        EACH + 2 * (sealed + template.as_ref().map_or(0, String::len))
    }
}

/// Endpoints by tenant.
#[derive(Default)]
pub struct Endpoints {
    known: HashMap<String, Known>,
    /// Of all that are known, in bytes.
    weight: usize,
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
        self.forget_some();
        let is_known =
            |tenant: &String, version: &String| self.known.get(tenant).is_some_and(|known| known.version == *version);
        let changed: Vec<&str> =
            wanted.iter().filter(|(tenant, version)| !is_known(tenant, version)).map(|(t, _)| t.as_str()).collect();
        // What has been removed meanwhile comes back with nothing.
        for tenant in &changed {
            self.weight -= self.known.remove(*tenant).map_or(0, |known| known.weight());
        }
        for loaded in endpoints::load(client, statement, &changed).await? {
            let known = Known { version: loaded.version, sealed: Arc::new(loaded.sealed), opened: None };
            self.weight += known.weight();
            self.known.insert(loaded.tenant_id, known);
        }
        let sealed = |tenant: &String| Some((tenant.clone(), Arc::clone(&self.known.get(tenant)?.sealed)));
        Ok(wanted.keys().filter_map(sealed).collect())
    }

    /// Where all are too many, half of them: who comes around again finds the other half.
    fn forget_some(&mut self) {
        if self.weight <= MOST {
            return;
        }
        let weight = &mut self.weight;
        self.known.retain(|_, known| {
            let stays = *weight <= MOST / 2;
            *weight -= if stays { 0 } else { known.weight() };
            stays
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known(endpoints: &mut Endpoints, tenants: usize, template: usize) {
        for tenant in 0..tenants {
            let sealed = SealedEndpoint { template: Some("t".repeat(template)), ..SealedEndpoint::default() };
            let known = Known { version: String::new(), sealed: Arc::new(sealed), opened: None };
            endpoints.weight += known.weight();
            endpoints.known.insert(tenant.to_string(), known);
        }
        endpoints.forget_some();
    }

    #[test]
    fn thousands_of_plain_endpoints_are_remembered_and_of_those_with_long_templates_half_when_they_are_too_many() {
        let mut endpoints = Endpoints::default();
        known(&mut endpoints, 4_000, 100);
        assert_eq!(endpoints.known.len(), 4_000);
        let mut endpoints = Endpoints::default();
        known(&mut endpoints, 40, 60_000);
        assert!((15..=20).contains(&endpoints.known.len()), "{}", endpoints.known.len());
        assert_eq!(endpoints.weight, endpoints.known.values().map(Known::weight).sum::<usize>());
    }
}
